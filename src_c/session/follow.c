/* SPDX-License-Identifier: Apache-2.0 */
#include "session/follow.h"

#include <errno.h>
#include <stdlib.h>

#include "base/count.h"
#include "session/parked.h"

int lb_follow_begin(struct lb_session *session, const struct lb_pool *pool) {
    struct lb_followed *followed = calloc(1, sizeof *followed);

    if (followed == NULL)
        return -ENOMEM;
    lb_exchange_init(&followed->exchange, pool->config.resend);
    followed->backend = UINT32_MAX;
    if (session->has_tlvs)
        followed->tlvs = session->tlvs;
    session->has_tlvs = false;
    session->drain_from_ms = 0;
    session->followed = followed;
    session->up.exchange = session->down.exchange = &followed->exchange;
    session->phase.exact = true;
    return 0;
}

void lb_follow_end(struct lb_worker *worker, struct lb_session *session) {
    struct lb_followed *followed = session->followed;

    if (followed == NULL)
        return;
    lb_parked_close_all(worker, session);
    lb_exchange_fini(&followed->exchange);
    session->queue_us += followed->past_queue_us;
    session->up.exchange = session->down.exchange = NULL;
    session->followed = NULL;
    session->phase.exact = false;
    free(followed->tlvs);
    free(followed);
}

void lb_follow_pin(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    session->pin = session->followed->exchange.pin;
    lb_count_add(&worker->counters.pools[session->pool].pinned[session->pin], 1);
    lb_follow_end(worker, session);
}
