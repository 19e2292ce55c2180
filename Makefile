# make            librdaemon.a, to be used with include/rdaemon.h
# make demo       the example daemon on real input
# make check      all tests
# make fuzz       TARGET=newlines SECONDS=60: one target of fuzz/ with libFuzzer, which is clang's
# make check-faults  each system call of the operations fails, or is the last of its process; as root, takes minutes
# make check-cross  archive and examples for other systems linked, tests for other processors run; takes minutes, the network once
# make check-systemd  daemons as units of real systemd, process 1 of a container; by hand, as root, the network once
# make check-sanitizers  the C tests under sanitizers and valgrind; QUICK=1 for less of it
# make soak MINUTES=30  threads that start, signal and stop all there is, and what the process has before and after
# make bench-spawn  what rdaemon_spawn costs beside other ways; takes minutes
# make bench-daemonize  the same of rdaemon_daemonize; make bench-sweep: of closing 20 000 fds
# make header     include/rdaemon.h anew, with the pinned cbindgen (make check-header: is it up to date?)
# make install    DESTDIR= prefix=/usr/local; also make uninstall

prefix = /usr/local
includedir = $(prefix)/include
libdir = $(prefix)/lib

CARGO = cargo
CBINDGEN_VERSION = 0.29.4
# Size is what the archive is compiled for, but calls that are larger than what they call are not worth it.
SMALL = -C llvm-args=-inline-threshold=50
HEADER = include/rdaemon.h
INSTALL = install

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
SOURCES := Cargo.toml $(shell find src -name '*.rs')
CBINDGEN = target/tools/cbindgen-$(CBINDGEN_VERSION)/bin/cbindgen

.PHONY: all
all: librdaemon.a

# The one object of the crate, without compiler_builtins: a second Rust library in the same program does not collide.
librdaemon.a: target/artifact/rdaemon.o
	rm -f $@
	$(AR) rcsD $@ target/artifact/rdaemon.o

target/artifact/rdaemon.o: $(SOURCES) Cargo.lock
	mkdir -p $(@D)
	rm -f $@
	$(CARGO) rustc --release --locked --lib --features capi --crate-type staticlib --target-dir target/artifact -- \
	    --cfg rdaemon_artifact $(SMALL) --emit obj=$@

# The same, with a panic handler that does not link.
target/proof/rdaemon.o: $(SOURCES) Cargo.lock
	mkdir -p $(@D)
	rm -f $@
	CARGO_PROFILE_RELEASE_OPT_LEVEL=3 \
	$(CARGO) rustc --release --locked --lib --features capi --crate-type staticlib --target-dir target/proof -- \
	    --cfg rdaemon_artifact --cfg rdaemon_prove_no_panic --emit obj=$@

# The same, with the branch for launchd, for a test that has a launchd of its own.
target/launchd/librdaemon.a: $(SOURCES) Cargo.lock
	mkdir -p $(@D)
	rm -f $@ target/launchd/rdaemon.o
	RUSTFLAGS='--cfg rdaemon_fake_launchd' \
	$(CARGO) rustc --release --locked --lib --features capi --crate-type staticlib --target-dir target/launchd -- \
	    --cfg rdaemon_artifact $(SMALL) --emit obj=target/launchd/rdaemon.o
	$(AR) rcsD $@ target/launchd/rdaemon.o

# The same, with AddressSanitizer, but not for the library's own stack: a child on shared memory never returns from its
# functions, and so leaves their variables marked as out of scope to its parent.
target/asan/librdaemon.a: $(SOURCES) Cargo.lock
	mkdir -p $(@D)
	rm -f $@ target/asan/rdaemon.o
	RUSTC_BOOTSTRAP=1 \
	$(CARGO) rustc --release --locked --lib --features capi --crate-type staticlib --target-dir target/asan/cargo -- \
	    --cfg rdaemon_artifact -Z sanitizer=address -C llvm-args=-asan-stack=0 --emit obj=target/asan/rdaemon.o
	$(AR) rcsD $@ target/asan/rdaemon.o

$(CBINDGEN):
	$(CARGO) install --quiet --locked --root target/tools/cbindgen-$(CBINDGEN_VERSION) cbindgen@$(CBINDGEN_VERSION)

.PHONY: header check-header
header: $(CBINDGEN)
	$(CBINDGEN) --quiet --config cbindgen.toml --output include/rdaemon.h .

check-header: $(CBINDGEN)
	$(CBINDGEN) --quiet --config cbindgen.toml --output $(HEADER) --verify .

.PHONY: install uninstall
install: librdaemon.a
	$(INSTALL) -d "$(DESTDIR)$(includedir)" "$(DESTDIR)$(libdir)/pkgconfig"
	$(INSTALL) -m 644 include/rdaemon.h "$(DESTDIR)$(includedir)/rdaemon.h"
	$(INSTALL) -m 644 librdaemon.a "$(DESTDIR)$(libdir)/librdaemon.a"
	sed -e 's|@prefix@|$(prefix)|' -e 's|@includedir@|$(includedir)|' -e 's|@libdir@|$(libdir)|' \
	    -e 's|@version@|$(VERSION)|' rdaemon.pc.in > "$(DESTDIR)$(libdir)/pkgconfig/rdaemon.pc"

uninstall:
	rm -f "$(DESTDIR)$(includedir)/rdaemon.h" "$(DESTDIR)$(libdir)/librdaemon.a" \
	    "$(DESTDIR)$(libdir)/pkgconfig/rdaemon.pc"

.PHONY: examples demo
examples: librdaemon.a
	@$(MAKE) --no-print-directory -C examples

demo: librdaemon.a
	@$(MAKE) --no-print-directory -C examples demo

.PHONY: bench-spawn bench-daemonize bench-sweep
bench-spawn bench-daemonize bench-sweep: librdaemon.a
	@$(MAKE) --no-print-directory -C benches $@

.PHONY: check check-rust check-ffi check-fuzz check-symbols
check: check-header check-symbols check-rust check-ffi check-fuzz

check-rust:
	$(CARGO) test --locked --all-features

check-ffi: librdaemon.a target/launchd/librdaemon.a examples
	@$(MAKE) --no-print-directory -C ffi-tests check

check-fuzz: librdaemon.a
	@$(MAKE) --no-print-directory -C fuzz check

.PHONY: fuzz
fuzz:
	@$(MAKE) --no-print-directory -C fuzz fuzz CARGO='$(CARGO)'

check-symbols: librdaemon.a target/proof/rdaemon.o
	$(CARGO) build --quiet --locked --lib --target-dir target/plain
	ffi-tests/check-symbols librdaemon.a target/proof/rdaemon.o target/plain/debug/librdaemon.rlib
	ffi-tests/check-object target/artifact/rdaemon.o $(HEADER) src/capi/*.rs

.PHONY: check-faults
check-faults: librdaemon.a
	@$(MAKE) --no-print-directory -C faults check

.PHONY: check-sanitizers soak
check-sanitizers: librdaemon.a target/asan/librdaemon.a
	@$(MAKE) --no-print-directory -C ffi-tests check-sanitizers QUICK='$(QUICK)'

MINUTES = 30
soak: librdaemon.a
	@RDAEMON_SOAK_SECONDS=$$(($(MINUTES) * 60)) $(MAKE) --no-print-directory -C ffi-tests check TESTS=soak SCRIPTS=

PARTS = check
.PHONY: check-cross
check-cross:
	@$(MAKE) --no-print-directory -C cross $(PARTS) CARGO='$(CARGO)' SMALL='$(SMALL)'

.PHONY: check-systemd
check-systemd: librdaemon.a
	@$(MAKE) --no-print-directory -C ffi-tests/systemd check

.PHONY: clean
clean:
	rm -rf target librdaemon.a
