/* SPDX-License-Identifier: Apache-2.0 */
#include "session/follow.h"

#include <errno.h>
#include <stdlib.h>

#include "base/count.h"
#include "session/parked.h"

static void note_pin(struct lb_worker *worker, struct lb_session *session, enum l4lb_pin reason) {
    session->pin = (uint8_t)reason;
    lb_count_add(&worker->counters.pools[session->pool].pinned[reason], 1);
}

int lb_follow_begin(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    struct lb_followed *followed = calloc(1, sizeof *followed);

    LB_OWNER(worker);
    if (followed == NULL) {
        note_pin(worker, session, L4LB_PIN_RESOURCE);
        return -ENOMEM;
    }
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

void lb_follow_free(struct lb_worker *worker, struct lb_session *session) {
    struct lb_followed *followed = session->followed;

    lb_parked_close_all(worker, session);
    lb_exchange_fini(&followed->exchange);
    session->queue_us += followed->past_queue_us;
    lb_relay_unfollow(&session->up);
    lb_relay_unfollow(&session->down);
    session->followed = NULL;
    session->phase.exact = false;
    free(followed->tlvs);
    free(followed);
}

void lb_follow_pin(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    note_pin(worker, session, (enum l4lb_pin)session->followed->exchange.pin);
    lb_follow_free(worker, session);
}
