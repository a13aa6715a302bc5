/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread - starts a thread of the data plane.
 *
 * Owner:   the caller joins it.
 * Errors:  -errno; then there is no thread.
 */
#ifndef LB_THREAD_H
#define LB_THREAD_H

#include <pthread.h>

#include "base/base.h"

/* All signals are blocked in the thread: they belong to the control thread. That also makes SIGPIPE harmless, which
 * splice(2) has no flag against. */
LB_MUST_CHECK int lb_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument);

#endif
