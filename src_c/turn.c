/* SPDX-License-Identifier: Apache-2.0 */
#include "turn.h"

#include "account.h"
#include "clock.h"
#include "count.h"
#include "deadline.h"
#include "histogram.h"
#include "pace.h"

/* The phase changed, or may have. */
static void note(struct lb_worker *worker, struct lb_session *session, unsigned events) {
    struct l4lb_backend_stats *counters = lb_account_counters(worker, session);

    lb_account_busy(worker, session, lb_phase_busy(&session->phase));
    if ((events & LB_TURN_SINGLE) != 0)
        lb_pace_learn(&lb_account_live(worker, session)->pace, false);
    if ((events & LB_TURN_ENDED) != 0)
        lb_histogram_add(&counters->turn, session->phase.duration_ns / LB_NS_PER_US);
    if ((events & LB_TURN_BEGAN) != 0) {
        lb_count_add(&counters->turns_total, 1);
        lb_account_coming(worker, session, false);
        if (session->phase.turns == 1 && session->first_byte_ms > 0)
            lb_deadline_arm_relay(worker, session);
    }
}

static void note_latency(struct lb_worker *worker, const struct lb_session *session, uint64_t us) {
    lb_histogram_add(&lb_account_counters(worker, session)->first_byte, us);
    lb_latency_learn(&lb_account_live(worker, session)->latency, us, (uint32_t)worker->now_ms);
}

void lb_turn_server_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes) {
    struct l4lb_backend_stats *counters = lb_account_counters(worker, session);
    uint64_t silence_us;
    unsigned events;

    lb_relay_end_run(&session->up);
    lb_count_add(&counters->received_bytes_total, bytes);
    if (session->first_byte_us == UINT64_MAX)
        session->first_byte_us = (worker->now_ns - session->started_ns) / LB_NS_PER_US;
    silence_us = (worker->now_ns - session->phase.server_ns) / LB_NS_PER_US;
    events = lb_phase_server(&session->phase, bytes, worker->now_ns);
    if ((events & LB_TURN_ANSWERED) != 0)
        session->phase.head_ms = lb_pace_head_ms(&lb_account_live(worker, session)->pace, (uint32_t)worker->now_ms);
    if ((events & LB_TURN_SECOND) != 0) {
        lb_latency_learn(&lb_account_live(worker, session)->pace.head, silence_us, (uint32_t)worker->now_ms);
        lb_pace_learn(&lb_account_live(worker, session)->pace, true);
    }
    if ((events & LB_TURN_ANSWERED) != 0)
        note_latency(worker, session, (worker->now_ns - session->phase.client_ns) / LB_NS_PER_US);
    if ((events & LB_TURN_GAP) != 0)
        lb_histogram_add(&counters->stream_gap, silence_us);
    note(worker, session, events);
}

void lb_turn_client_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes) {
    lb_relay_end_run(&session->down);
    lb_count_add(&lb_account_counters(worker, session)->sent_bytes_total, bytes);
    note(worker, session, lb_phase_client(&session->phase, bytes, worker->now_ns));
}

void lb_turn_expire(struct lb_worker *worker, struct lb_session *session) {
    if (worker->now_ms >= lb_deadline_turn_ms(session))
        note(worker, session, lb_phase_expire(&session->phase, worker->now_ns));
}

void lb_turn_over(struct lb_worker *worker, struct lb_session *session) {
    if (session->phase.pieces == 1)
        lb_pace_learn(&lb_account_live(worker, session)->pace, false);
}
