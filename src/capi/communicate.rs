use super::child::{rdaemon_child, rdaemon_exit, with_child};
use super::intake::{answer, array, handle, limit, room, sized, sized_out};
use super::spawn::{rdaemon_spawn_config, with_config};
use super::status::rdaemon_status;
use crate::deadline::Deadline;
use crate::error::{Step, refuse};
use crate::spawn::{self, CommunicateFlags, Communication, Exchange, Full, Output};
use crate::sys::errno::from_number;
use core::ffi::{c_char, c_int, c_void};
use rustix::io::Errno;

/// Where a program's standard output, or its standard error, goes: into a buffer, to a sink, or, with neither, nowhere.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_output {
    /// The buffer, which gets no NUL at its end. NULL: none. What it has behind len may be overwritten.
    pub buffer: *mut c_char,
    /// How many bytes it has.
    pub size: usize,
    /// How many of them are in use. Set to 0, or to what you have left in the buffer, when you have taken them out.
    pub len: usize,
    /// Gets the bytes as they come. A negative errno ends the call with it, any other result but 0 with -ECANCELED; the
    /// bytes that it was given count as taken. It must not use the child's handle. NULL: none.
    pub sink: Option<extern "C" fn(context: *mut c_void, bytes: *const c_char, len: usize) -> c_int>,
    /// For the sink.
    pub context: *mut c_void,
}

/// Flags of struct rdaemon_communication.
#[repr(C)]
pub enum rdaemon_communicate_flags {
    /// Until the program has ended, although processes that it made may hold its pipes open; what is in the pipes by
    /// then is taken. Without the flag such a process keeps the call waiting. The end is waited for as by
    /// rdaemon_child_wait(), which then gives its answer.
    RDAEMON_COMMUNICATE_UNTIL_EXIT = 1,
    /// "\r\n" and "\r" become "\n", also when they come in two parts. A buffer needs a byte more than the text, lest it
    /// be full before the second half of a last "\r\n" comes.
    RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES = 2,
}

/// What rdaemon_communicate() returns: DONE, or the sum of the others.
#[repr(C)]
pub enum rdaemon_communicate_result {
    /// All input is sent, or the program takes no more of it, and all output is taken; the pipes are closed.
    RDAEMON_COMMUNICATE_DONE = 0,
    /// The buffer of standard output is full, and more is there.
    RDAEMON_COMMUNICATE_STDOUT_FULL = 1,
    /// The buffer of standard error is full, and more is there.
    RDAEMON_COMMUNICATE_STDERR_FULL = 2,
}

const _: () = {
    use rdaemon_communicate_result::{RDAEMON_COMMUNICATE_STDERR_FULL, RDAEMON_COMMUNICATE_STDOUT_FULL};
    assert!(RDAEMON_COMMUNICATE_STDOUT_FULL as u32 == Full::STDOUT.bits());
    assert!(RDAEMON_COMMUNICATE_STDERR_FULL as u32 == Full::STDERR.bits());
    use rdaemon_communicate_flags::{RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES, RDAEMON_COMMUNICATE_UNTIL_EXIT};
    assert!(RDAEMON_COMMUNICATE_UNTIL_EXIT as u32 == CommunicateFlags::UNTIL_EXIT.bits());
    assert!(RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES as u32 == CommunicateFlags::UNIVERSAL_NEWLINES.bits());
};

/// What is said to a program, and where what it says goes; and, from call to call, how far that has come. One of its
/// own, of zeros at first, for each program.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_communication {
    /// enum rdaemon_communicate_flags.
    pub flags: u32,
    /// The library's; zero at first.
    pub state: u32,
    /// What is sent to standard input, if that is a pipe, which is closed then; with no input it is closed at once.
    pub input: *const c_void,
    /// How many bytes.
    pub input_len: usize,
    /// How many of them were sent; zero at first.
    pub input_sent: usize,
    /// Where standard output and standard error go.
    pub outputs: [rdaemon_output; 2],
}

sized! { rdaemon_communication = size_of::<rdaemon_communication>(), }

impl rdaemon_output {
    fn give(&self, bytes: &[u8]) -> Result<(), Errno> {
        match self.sink.map_or(0, |sink| sink(self.context, bytes.as_ptr().cast(), bytes.len())) {
            0 => Ok(()),
            number @ -4095..0 => Err(from_number(number.wrapping_neg())),
            _ => Err(Errno::CANCELED),
        }
    }

    fn is_none(&self) -> bool {
        self.buffer.is_null() && self.sink.is_none()
    }

    fn output<'a>(&self, sink: &'a mut dyn FnMut(&[u8]) -> Result<(), Errno>) -> Result<Output<'a>, Errno> {
        let bytes = room(self.buffer.cast::<u8>(), self.size)?;
        let one_way = self.buffer.is_null() || self.sink.is_none();
        let context_is_used = self.sink.is_some() || self.context.is_null();
        if !one_way || !context_is_used || self.len > self.size {
            return Err(Errno::INVAL);
        }
        Ok(match () {
            () if self.sink.is_some() => Output::Sink(sink),
            () if self.is_none() => Output::Discard,
            () => Output::Buffer { bytes, length: self.len },
        })
    }
}

/// Lends the conversation, and keeps how far it has come.
fn with_communication<T>(
    communication: *mut rdaemon_communication,
    size: usize,
    act: impl FnOnce(&mut Communication<'_>) -> T,
) -> Result<T, Errno> {
    let mut c = handle(communication, size)?;
    let input = array(c.input.cast::<u8>(), c.input_len)?;
    let mut sinks = c.outputs.map(|output| move |bytes: &[u8]| output.give(bytes));
    let [first, second] = &mut sinks;
    let [out, err] = &c.outputs;
    let outputs = [out.output(first)?, err.output(second)?];
    let after_cr = [c.state & 1 != 0, c.state & 2 != 0];
    let flags = CommunicateFlags::from_bits(c.flags).ok_or(Errno::INVAL)?;
    let unsent = input.get(c.input_sent..).filter(|_| c.state < 4).ok_or(Errno::INVAL)?;
    let mut conversation = Communication { flags, input: unsent, outputs, after_cr };
    let result = act(&mut conversation);
    let Communication { input: unsent, outputs, after_cr: [out, err], .. } = conversation;
    c.input_sent = c.input_len - unsent.len().min(c.input_len);
    c.state = u32::from(out) | u32::from(err) << 1;
    let lengths = outputs.map(|output| if let Output::Buffer { length, .. } = output { length } else { 0 });
    for (place, length) in c.outputs.iter_mut().zip(lengths) {
        place.len = length;
    }
    sized_out(communication, size, &c);
    Ok(result)
}

/// Sends the input to the program and takes its output, at once and so without a deadlock, until the pipes of its three
/// streams are closed. A pipe that has ended is closed, and its place in child->fds set to -1.
///
/// The program need not take all its input: then input_sent tells how much it took, and no SIGPIPE is raised. The pipes
/// may be blocking or not, and stay so. The end of the program itself is left to rdaemon_child_wait(), but see
/// RDAEMON_COMMUNICATE_UNTIL_EXIT.
///
/// timeout_ms is a time limit (see the conventions). 0 makes one step that does not wait: for an event loop, which
/// polls child->fds[0] to write, if it is not -1, and the two others to read (and with RDAEMON_COMMUNICATE_UNTIL_EXIT
/// child->pidfd, which RDAEMON_SPAWN_PIDFD provides).
///
/// Returns enum rdaemon_communicate_result (>= 0): unless DONE, empty the full buffers and call again; -ETIMEDOUT: call
/// again, nothing is lost; -EINVAL for NULL, a handle that is none, an unknown flag, an output with both a buffer and a
/// sink, a context without a sink, or a len or input_sent that is too large; -EBADF for a pipe that is no fd; a sink's
/// error; or any error of ppoll(2), read(2) or write(2), after which a further call goes on too.
/// Async-signal-safe if the sinks are; thread-safe with other handles. Needs about 18 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_communicate(
    child: *mut rdaemon_child,
    child_size: usize,
    communication: *mut rdaemon_communication,
    communication_size: usize,
    timeout_ms: c_int,
) -> c_int {
    answer(|| {
        let deadline = Deadline::after(limit(timeout_ms)?);
        let full = with_child(child, child_size, |process, pipes| {
            with_communication(communication, communication_size, |communication| {
                Exchange { process, pipes, communication }.run(deadline)
            })?
        })?;
        Ok(full.bits() as c_int)
    })
}

/// Starts a program, communicates with it, and waits for its end: rdaemon_spawn(), rdaemon_communicate() and
/// rdaemon_child_wait() in one.
///
/// Streams left at their default become pipes where there is input to send, or a buffer or a sink to take output.
/// communication: NULL, 0 when there is no input and no output is wanted. timeout_ms is a time limit (see the
/// conventions) from the start of the program on. ret_exit and ret_status may be NULL. Refused are
/// RDAEMON_SPAWN_DETACHED and _NO_REAP, pipes in fd_map, and input for a standard input that is no pipe.
///
/// Returns 0 when the program has ended, and ret_exit tells how; -ETIMEDOUT; -ENOBUFS when a buffer was too small;
/// -ECHILD when it ended and its status is lost, as always while SIGCHLD is ignored; else any error of the three.
/// ret_status tells the step, among them RDAEMON_STEP_COMMUNICATE and RDAEMON_STEP_WAIT. A process that holds the pipes
/// after the program has ended makes it -ETIMEDOUT, unless RDAEMON_COMMUNICATE_UNTIL_EXIT is set. After a failure the
/// program was killed and reaped, and the buffers hold what had come; a program that may not be killed, as it runs with
/// another user's rights, goes on, and ret_status->pid is its pid.
/// Async-signal-safe and thread-safe as rdaemon_spawn() is. Needs about 30 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_run(
    config: *const rdaemon_spawn_config,
    config_size: usize,
    communication: *mut rdaemon_communication,
    communication_size: usize,
    timeout_ms: c_int,
    ret_exit: *mut rdaemon_exit,
    ret_exit_size: usize,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let result = with_config(config, config_size, |config, _| {
            let deadline = Deadline::after(refuse(limit(timeout_ms), Step::Wait)?);
            if communication.is_null() && communication_size == 0 {
                return spawn::run_until(config, &mut Communication::default(), deadline);
            }
            let run = |communication: &mut Communication<'_>| spawn::run_until(config, communication, deadline);
            refuse(with_communication(communication, communication_size, run), Step::Communicate)?
        });
        if let Ok(status) = result {
            sized_out(ret_exit, ret_exit_size, &status.into());
        }
        rdaemon_status::report(result.map(|_| 0), ret_status, ret_status_size)
    })
}
