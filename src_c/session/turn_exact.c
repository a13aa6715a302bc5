/* SPDX-License-Identifier: Apache-2.0 */
#include "session/turn_exact.h"

#include "base/clock.h"
#include "base/count.h"
#include "base/histogram.h"
#include "relay/path_splice.h"
#include "session/account.h"

enum { OTHER_CLASS = L4LB_N_STATUS_CLASS - 1 };

static uint32_t class_of(uint16_t status) {
    uint32_t hundreds = status / 100u;
    return hundreds >= 1 && hundreds <= OTHER_CLASS ? hundreds - 1 : OTHER_CLASS;
}

/* A request goes to the current backend. */
static void note_backend(struct lb_worker *worker, struct lb_session *session) {
    struct lb_followed *followed = session->followed;

    if (followed->backend != UINT32_MAX && followed->backend != session->claim.backend) {
        session->moves++;
        lb_count_add(&worker->counters.pools[session->pool].moves_total, 1);
    }
    followed->backend = session->claim.backend;
}

static void note_began(struct lb_worker *worker, struct lb_session *session, uint32_t n, uint64_t up) {
    if (!lb_phase_busy(&session->phase)) {
        lb_phase_begin(&session->phase, worker->now_ns);
        note_backend(worker, session);
        session->followed->request_up = session->up.bytes - up;
        session->followed->request_down = session->down.bytes;
        session->phase.turns += n - 1;
    } else {
        session->phase.turns += n;
    }
    lb_count_add(&lb_account_counters(worker, session)->turns_total, n);
}

/* The client gets something that it can use: the first byte of a body, not a head alone. */
static void note_response(struct lb_worker *worker, struct lb_session *session, struct lb_exchange_news news) {
    struct l4lb_backend_stats *counters = lb_account_counters(worker, session);
    uint64_t waited_us = (worker->now_ns - session->phase.client_ns) / LB_NS_PER_US;

    if (news.head)
        lb_histogram_add(&counters->first_byte, waited_us);
    if (news.body) {
        lb_histogram_add(&counters->first_body, waited_us);
        lb_latency_learn(&lb_account_shared(worker, session)->latency, waited_us, worker->now_ms);
    }
    if (news.head)
        session->followed->head_ns = worker->now_ns;
}

/* One response is complete, and the next outstanding request is the one in flight. */
static void complete(struct lb_worker *worker, struct lb_session *session, uint16_t status) {
    struct l4lb_backend_stats *counters = lb_account_counters(worker, session);
    struct lb_followed *followed = session->followed;

    lb_phase_complete(&session->phase, worker->now_ns);
    lb_histogram_add(&counters->turn, session->phase.duration_ns / LB_NS_PER_US);
    lb_count_add(&counters->responses[class_of(status)], 1);
    if (lb_backend_responded(lb_account_shared(worker, session)))
        lb_queue_grant(lb_account_queue(worker, session));
    session->status = status;
    lb_account_record_request(worker, session);
    followed->request_up = session->up.bytes;
    followed->request_down = session->down.bytes;
    session->phase.turn_ns = worker->now_ns;
    session->phase.reported = false;
}

/* Another request is outstanding, whose response may have begun. Once pinned, its end is not known. */
static void await_next(struct lb_phase *phase, bool in_response) {
    phase->state = in_response ? LB_PHASE_STREAM : LB_PHASE_WAIT;
    phase->expected = LB_END_UNKNOWN;
}

/* `is_final` says that some of these bytes belong to a final response, after its head. */
static void note_down(struct lb_worker *worker, struct lb_session *session, uint64_t down, bool is_final) {
    struct l4lb_backend_stats *counters = lb_account_counters(worker, session);
    struct lb_phase *phase = &session->phase;

    lb_path_splice_end_run(&session->up);
    lb_count_add(&counters->received_bytes_total, down);
    if (session->first_byte_us == UINT64_MAX)
        session->first_byte_us = (worker->now_ns - session->started_ns) / LB_NS_PER_US;
    if (!session->responded) {
        session->responded = true;
        lb_count_add(&counters->responded_total, 1);
    }
    if (phase->state == LB_PHASE_STREAM)
        lb_histogram_add(&counters->stream_gap, (worker->now_ns - phase->server_ns) / LB_NS_PER_US);
    if (lb_phase_busy(phase) && is_final)
        lb_phase_respond(phase, worker->now_ns);
}

void lb_turn_exact_moved(struct lb_worker *worker, struct lb_session *session, uint64_t up, uint64_t down) {
    struct lb_exchange *exchange = &session->followed->exchange;
    struct lb_exchange_news news = lb_exchange_take_news(exchange);

    if (up > 0) {
        lb_path_splice_end_run(&session->down);
        lb_count_add(&lb_account_counters(worker, session)->sent_bytes_total, up);
    }
    if (news.began > 0)
        note_began(worker, session, news.began, up);
    if (up > 0 && session->phase.state == LB_PHASE_WAIT)
        session->phase.client_ns = worker->now_ns;
    if (down > 0) {
        note_response(worker, session, news);
        note_down(worker, session, down, exchange->in_response || news.completed > 0);
    }
    for (uint32_t i = 0; i < news.completed; i++)
        complete(worker, session, news.statuses[i]);
    if (exchange->n_outstanding > 0 && !lb_phase_busy(&session->phase))
        await_next(&session->phase, exchange->in_response);
    lb_claim_set_busy(&session->claim, &worker->runtime->shared, lb_phase_busy(&session->phase));
    if (news.began > 0)
        lb_claim_end_reservation(&session->claim, &worker->runtime->shared);
}

void lb_turn_exact_resend(struct lb_worker *worker, struct lb_session *session) {
    struct l4lb_backend_stats *counters = lb_account_counters(worker, session);

    note_backend(worker, session);
    lb_count_add(&counters->turns_total, 1);
    lb_count_add(&counters->sent_bytes_total, session->followed->exchange.copy_len);
    lb_claim_set_busy(&session->claim, &worker->runtime->shared, true);
    lb_claim_end_reservation(&session->claim, &worker->runtime->shared);
}

void lb_turn_exact_end(struct lb_worker *worker, struct lb_session *session) {
    lb_exchange_finish(&session->followed->exchange);
    lb_turn_exact_moved(worker, session, 0, 0);
}
