/*
 * embed.c: the agent inside the process of pylaunchd. Linked where python3-config --embed works.
 */
#include <Python.h>

#include <rdaemon.h>

#include "pylaunchd.h"

static int ready = -1;

/* Without a service manager there is nobody to tell, and nothing to do about an error. */
static void notify(uint32_t state, const char *status) {
    struct rdaemon_notification notification = {.flags = state, .status = status};
    rdaemon_notify(RDAEMON_SIZED(&notification));
}

static PyObject *say_ready(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    rdaemon_ready(ready);
    ready = -1;
    notify(RDAEMON_STATE_READY, NULL);
    Py_RETURN_NONE;
}

static PyObject *say_stopping(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    notify(RDAEMON_STATE_STOPPING, NULL);
    Py_RETURN_NONE;
}

static PyObject *say_status(PyObject *self, PyObject *text) {
    (void)self;
    const char *status = PyUnicode_AsUTF8(text);
    if (!status)
        return NULL;
    notify(0, status);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"ready", say_ready, METH_NOARGS, "Tells the one who started the daemon that it serves."},
    {"stopping", say_stopping, METH_NOARGS, "Tells the service manager that it is about to end."},
    {"status", say_status, METH_O, "Tells the service manager how it is, in a line of text."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_pylaunchd", .m_size = -1, .m_methods = methods};

static PyObject *make_module(void) {
    return PyModule_Create(&module);
}

/* As the command line would. The program's name must be a real Python: sys.executable is derived
   from it, and what the agent starts through that. */
static PyStatus start_python(const struct arguments *arguments) {
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, arguments->list[0]);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesArgv(&config, arguments->count, arguments->list);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

int embed_python(const struct arguments *arguments, int ready_fd) {
    ready = ready_fd;
    if (PyImport_AppendInittab("_pylaunchd", make_module) < 0)
        return 1;
    PyStatus status = start_python(arguments);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "pylaunchd: Python: %s\n", status.err_msg ? status.err_msg : "failed");
        return 1;
    }
    return Py_RunMain();
}
