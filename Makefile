# libqsock: one Makefile. Out-of-tree builds in build/<variant>; sources by wildcard.
#   make [VARIANT=release|asan|tsan|cov]     library and examples
#   make unit [T=name]                       unit tests of this variant
VARIANT ?= release
B := build/$(VARIANT)
CC ?= cc
PKG := libbsd libcrypto libssl
CFLAGS_release := -O2 -g
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_cov := -O0 -g --coverage
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -DOPENSSL_API_COMPAT=30000 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wvla -Wno-unused-parameter -Werror -fPIC -fvisibility=hidden -pthread \
	-Iinclude -Ilibqsock -MMD -MP $(CFLAGS_$(VARIANT)) $(shell pkg-config --cflags $(PKG)) $(CFLAGS)
LIBS := $(shell pkg-config --libs $(PKG)) -pthread

# The TLS backend goes by the OpenSSL it is built with, unless TLS_BACKEND=quic|compat is given (use an own B= then).
H := \#
ifndef TLS_BACKEND
TLS_BACKEND := $(lastword $(shell printf '%s\n' '$(H)include <openssl/opensslv.h>' \
	'$(H)if OPENSSL_VERSION_NUMBER >= 0x30500000L' quic '$(H)else' compat '$(H)endif' | \
	$(CC) $(shell pkg-config --cflags $(PKG)) -E -P -))
endif
TLS_quic := libqsock/tls/tls_quic.c
TLS_compat := libqsock/tls/tls_compat.c libqsock/tls/tls_early.c libqsock/tls/record.c
ifeq ($(TLS_$(TLS_BACKEND)),)
$(error no TLS backend "$(TLS_BACKEND)": quic or compat)
endif

SRC := $(filter-out $(filter-out $(TLS_$(TLS_BACKEND)),$(TLS_quic) $(TLS_compat)),$(wildcard libqsock/*/*.c))
OBJ := $(SRC:%.c=$(B)/%.o)
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/test_*.c))
SUPPORT := $(patsubst %.c,$(B)/%.o,$(wildcard tests/support/*.c))

all: $(B)/libqsock.a

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests -c $< -o $@

$(B)/libqsock.a: $(OBJ)
	@rm -f $@
	ar rcs $@ $^

$(B)/tests/unit/test_%: $(B)/tests/unit/test_%.o $(SUPPORT) $(B)/libqsock.a
	$(CC) $(ALL_CFLAGS) $< $(SUPPORT) $(B)/libqsock.a $(LIBS) -lcmocka -o $@

unit: $(if $(T),$(B)/tests/unit/test_$(T),$(UNIT))
	@set -e; for t in $^; do echo "== $$t"; ./$$t; done

clean:
	rm -rf build

.PHONY: all unit clean
.SECONDARY:
-include $(shell find build -name '*.d' 2>/dev/null)
