# libqsock: one Makefile. Out-of-tree builds in build/<variant>; sources, examples and tests by wildcard, so
# a new file needs no registration. Release results stand in build/bin and build/lib, those of other variants in
# build/<variant>/bin and lib. "make help" prints this:
#   make                                     libraries, examples and the preload library
#   make unit|sim|fd [T=name]                run test programs (tests/unit/test_NAME.c, ...)
#   make check                               everything that must be green: all of them, also under sanitizers, and:
#     make check-layers                      includes go downward, the lower half makes no system call
#     make check-install                     the README's program, built against what is installed
#     make check-leaks                       the examples and tests over descriptors under valgrind
#   make check-openssl35                     the tests in a Debian 13 tree (root, debootstrap)
#   make demo                                fetch a directory over QUIC, compare checksums
#   make interop                             against quic-go and ngtcp2, as Debian has them
#   make interop-more                        against aioquic and OpenSSL's own QUIC, as Debian 13 has them
#   make preload-compare                     the shim beside the kernel's TCP, single socket calls
#   make preload-matrix                      the same with programs of Debian
#   make bench                               against TCP with TLS 1.3, on this machine
#   make install|uninstall [PREFIX=/usr/local] [DESTDIR=]
#   make clean
#   VARIANT=release|asan|tsan|cov            what is built and run
#   TLS_BACKEND=quic|compat                  instead of the one that OpenSSL allows
#   V=1                                      show the commands
VARIANT ?= release
CC ?= cc
VERSION := 0.1.0
SONAME := libqsock.so.0

B := build/$(VARIANT)$(if $(TLS_BACKEND),-$(TLS_BACKEND))
O := $(if $(filter build/release,$(B)),build,$(B))
PKG := libssl libcrypto libbsd

CFLAGS_release := -O2 -g
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_cov := -O0 -g --coverage
$(if $(CFLAGS_$(VARIANT)),,$(error VARIANT is one of release, asan, tsan, cov))

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -DOPENSSL_API_COMPAT=30000 -Wall -Wextra -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wpointer-arith -Wvla -Wno-unused-parameter -Werror -fPIC -fvisibility=hidden -pthread \
	-Iinclude -Ilibqsock -I. -MMD -MP $(CFLAGS_$(VARIANT)) $(PKG_CFLAGS) $(CFLAGS)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKG) 2>/dev/null)
LIBS := $(shell pkg-config --libs $(PKG) 2>/dev/null) -pthread
Q := $(if $(V),,@)
say := @$(if $(findstring s,$(firstword -$(MAKEFLAGS))),:,echo)
LINK = $(CC) $(CFLAGS_$(VARIANT)) $(CFLAGS) -pthread $(LDFLAGS)

# ---- what there is ------------------------------------------------------------
# The TLS backend goes by the OpenSSL that is built with, unless TLS_BACKEND=quic|compat is given.
HAS_QUIC_TLS := $(shell pkg-config --atleast-version=3.5 libssl 2>/dev/null && echo yes)
TLS := $(or $(TLS_BACKEND),$(if $(HAS_QUIC_TLS),quic,compat))
TLS_quic := libqsock/tls/tls_quic.c
TLS_compat := libqsock/tls/tls_compat.c libqsock/tls/tls_early.c libqsock/tls/record.c
$(if $(TLS_$(TLS)),,$(error TLS_BACKEND is quic or compat))
SRC := $(filter-out $(filter-out $(TLS_$(TLS)),$(TLS_quic) $(TLS_compat)),$(wildcard libqsock/*/*.c))
PRELOAD_SRC := $(wildcard preload/*.c)
objects = $(patsubst %.c,$(B)/%.o,$(1))
programs = $(patsubst %.c,$(B)/%,$(wildcard $(1)))
select = $(if $(T),$(B)/$(1)/test_$(T),$(call programs,$(1)/test_*.c))

LIB := $(B)/libqsock.a
SHARED := $(O)/lib/libqsock.so.$(VERSION)
# All but the hooks themselves, which would stand in front of what the tests call too.
SHIM := $(B)/preload.a
PRELOAD := $(O)/lib/libqsock_preload.so
BIN := $(patsubst examples/%.c,$(O)/bin/%,$(wildcard examples/*.c))
SUPPORT := $(B)/tests/support.a
UNIT := $(call select,tests/unit)
SIM := $(call select,tests/sim)
FD := $(call select,tests/fd)
BENCH := $(patsubst %.c,$(O)/%,$(wildcard tests/bench/*.c))
PROOF := $(O)/tests/preload/compare $(O)/tests/preload/prefork
PEER := $(patsubst %.c,$(O)/%,$(wildcard tests/interop/*.c))

all: $(LIB) $(BIN) $(if $(filter release,$(VARIANT)),$(SHARED) $(PRELOAD))

# ---- how it is made -----------------------------------------------------------
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(say) "CC $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(filter tests/%,$<),-Itests) -c $< -o $@

$(LIB): $(call objects,$(SRC))
$(SUPPORT): $(call objects,$(wildcard tests/support/*.c))
$(B)/preload.a: $(call objects,$(filter-out preload/hooks.c,$(PRELOAD_SRC)))
%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(say) "AR $@"
	$(Q)ar rcs $@ $^

$(SHARED): $(call objects,$(SRC)) libqsock/libqsock.map
	@mkdir -p $(@D)
	$(say) "LD $@"
	$(Q)$(LINK) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=libqsock/libqsock.map -Wl,-z,defs \
		$(filter %.o,$^) $(LIBS) -o $@
	@ln -sf $(@F) $(@D)/$(SONAME)
	@ln -sf $(SONAME) $(@D)/libqsock.so

# The shim carries its own copy of the library and shows none of it: only what preload/ marks as visible.
$(O)/lib/libqsock_preload.so: $(call objects,$(PRELOAD_SRC)) $(LIB)
	@mkdir -p $(@D)
	$(say) "LD $@"
	$(Q)$(LINK) -shared -Wl,--exclude-libs,ALL -Wl,-z,defs $^ $(LIBS) -ldl -o $@

define link_program
@mkdir -p $(@D)
$(say) "LD $@"
$(Q)$(LINK) $(filter %.o,$^) $(filter %.a,$^) $(LIBS) $(1) -o $@
endef

$(O)/bin/%: $(B)/examples/%.o $(LIB)
	$(call link_program)
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(SUPPORT) $(SHIM) $(LIB)
	$(call link_program,-lcmocka)
$(B)/tests/sim/%: $(B)/tests/sim/%.o $(SUPPORT) $(LIB)
	$(call link_program,-lcmocka)
# This one is a program with the hooks in it: sanitizers want no library before theirs.
$(B)/tests/fd/test_shim: $(call objects,preload/hooks.c)
$(B)/tests/fd/%: $(B)/tests/fd/%.o $(SUPPORT) $(SHIM) $(LIB)
	$(call link_program,-lcmocka)
$(O)/tests/bench/%: $(B)/tests/bench/%.o $(LIB)
	$(call link_program)
$(O)/tests/interop/%: $(B)/tests/interop/%.o $(LIB)
	$(call link_program)
# OpenSSL's own QUIC: nothing of ours in it. A variant has no business here, and neither has our include path.
$(O)/tests/interop/openssl: tests/interop/openssl/peer.c
	@mkdir -p $(@D)
	$(say) "LD $@"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror $< $(LIBS) -o $@
$(O)/tests/interop/aioquic: tests/interop/aioquic/peer.py
	@mkdir -p $(@D)
	$(Q)install -m 755 $< $@
# Programs that know nothing of the library, for the shim to serve.
$(O)/tests/preload/compare: $(patsubst %.c,$(B)/%.o,$(wildcard tests/preload/compare*.c))
$(O)/tests/preload/prefork: $(B)/tests/preload/prefork.o
$(PROOF):
	@mkdir -p $(@D)
	$(say) "LD $@"
	$(Q)$(LINK) $(filter %.o,$^) -o $@
$(O)/tests/interop/goquic: $(wildcard tests/interop/goquic/*.go)
	@mkdir -p $(@D)
	GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= go build -o $@ ./tests/interop/goquic

# ---- tests --------------------------------------------------------------------
unit: $(UNIT)
	@tests/run.sh $^
sim: $(SIM)
	@tests/run.sh $^
fd: $(FD) | all
	@tests/run.sh $(FD)
tests: $(UNIT) $(SIM) $(FD)

check-layers: $(SHARED) $(call objects,$(SRC) $(PRELOAD_SRC))
	@tests/check-layers.sh $^

deps:
	@tests/deps.sh $(TOOLS)

check-leaks: all $(FD)
	@tests/valgrind.sh

JOBS ?= $(shell nproc)
check: TOOLS := valgrind
check: deps
	$(MAKE) VARIANT=release -j$(JOBS) all tests
	$(MAKE) VARIANT=release -j1 check-layers check-install unit sim fd check-leaks
	$(MAKE) VARIANT=asan -j$(JOBS) all tests
	$(MAKE) VARIANT=asan -j1 unit sim fd
	$(MAKE) VARIANT=tsan -j$(JOBS) all tests
	$(MAKE) VARIANT=tsan -j1 fd

# As somebody who has it installed: README's program, both libraries, C++.
check-install:
	@tests/install.sh

check-openssl35: all
	@tests/debian13.sh
demo: deps
	@$(MAKE) all
	@tests/demo.sh
interop: all $(PEER) $(O)/tests/interop/goquic
	@tests/interop/run.sh $(O)/tests/interop
interop-more: all $(PEER) $(O)/tests/interop/aioquic $(O)/tests/interop/openssl
	@INTEROP_PAIRS="peer:aioquic aioquic:peer peer:openssl openssl:peer" tests/interop/run.sh $(O)/tests/interop
preload-compare: $(PRELOAD) $(PROOF)
	@tests/preload/compare.sh $(O)
preload-matrix: all $(PROOF)
	@tests/preload/matrix.sh $(O)
bench: all $(BENCH)
	@tests/bench/run.sh $(O)

# ---- install ------------------------------------------------------------------
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DEST_LIB = $(DESTDIR)$(LIBDIR)

install: all
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/bin $(DEST_LIB)/pkgconfig
	install -m 644 $(wildcard include/*.h) -t $(DESTDIR)$(PREFIX)/include
	install -m 644 $(LIB) -t $(DEST_LIB)
	install -m 755 $(SHARED) $(PRELOAD) -t $(DEST_LIB)
	ln -sf $(notdir $(SHARED)) $(DEST_LIB)/$(SONAME)
	ln -sf $(SONAME) $(DEST_LIB)/libqsock.so
	install -m 755 $(BIN) preload/qsock-run -t $(DESTDIR)$(PREFIX)/bin
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$${prefix}/include' '' 'Name: qsock' \
		'Description: QUIC connections and streams as file descriptors' 'Version: $(VERSION)' \
		'Requires.private: $(PKG)' 'Libs: -L$${libdir} -lqsock' 'Libs.private: -pthread' \
		'Cflags: -I$${includedir}' > $(DEST_LIB)/pkgconfig/qsock.pc
	$(if $(DESTDIR),,@PATH=$$PATH:/sbin:/usr/sbin ldconfig 2> /dev/null || true)	# root's: so that it is found

uninstall:
	rm -f $(patsubst include/%,$(DESTDIR)$(PREFIX)/include/%,$(wildcard include/*.h)) \
		$(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(BIN)) qsock-run) \
		$(addprefix $(DEST_LIB)/,$(notdir $(LIB) $(SHARED) $(PRELOAD)) $(SONAME) libqsock.so pkgconfig/qsock.pc)

clean:
	rm -rf build

help:
	@sed -n 's/^#   //p' Makefile

.PHONY: all unit sim fd tests check-layers check-install check-leaks deps check check-openssl35 demo interop \
	interop-more preload-compare preload-matrix bench install uninstall clean help
.SECONDARY:
.DELETE_ON_ERROR:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
