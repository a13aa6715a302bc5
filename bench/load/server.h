/* SPDX-License-Identifier: Apache-2.0 */
/* server - answers every operation of protocol.h, and HTTP, on any number of addresses from one epoll loop. */
#ifndef LOAD_SERVER_H
#define LOAD_SERVER_H

#include "common.h"

/* Prints "listening" and serves until a signal ends the program. */
_Noreturn void serve(const struct targets *targets);

#endif
