/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread - starts a thread of the data plane.
 * Owner:   the caller joins it.
 * Errors:  -errno; then there is no thread.
 */
#ifndef LB_THREAD_H
#define LB_THREAD_H

#include <pthread.h>

#include "base/base.h"

/* Signals are the control thread's business: here all are blocked. That also makes SIGPIPE harmless, which splice(2)
 * has no flag against. */
LB_MUST_CHECK int lb_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument);

#endif
