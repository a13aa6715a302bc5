/* SPDX-License-Identifier: Apache-2.0 */
#include "session/greeting.h"

#include <errno.h>

#include "base/bounds.h"
#include "config/admission.h"
#include "config/routes.h"
#include "config/snapshot.h"
#include "kernel/transport.h"
#include "protocol/client_hello.h"
#include "protocol/proxy_header.h"
#include "protocol/server_name.h"

static const struct lb_greeted more = {.how = LB_GREETING_WAIT};

static struct lb_greeted rejected(enum l4lb_reject reason) {
    return (struct lb_greeted){.how = LB_GREETING_REJECT, .reason = reason};
}

static struct lb_greeted towards(uint32_t pool) { return (struct lb_greeted){.how = LB_GREETING_POOL, .pool = pool}; }

struct lb_greeted lb_greeting_admit(const struct lb_listener *listener) {
    return listener->hello_ms > 0 ? (struct lb_greeted){.how = LB_GREETING_HELLO} : towards(listener->pool);
}

/* ---- the PROXY header -------------------------------------------------------------------------------------------- */

/* Keep the TLVs of the header for the backend. */
static int keep_tlvs(struct lb_session *session, const struct lb_proxy_header *header) {
    int result = lb_proxy_tlvs_new(header, &session->tlvs);

    session->has_tlvs = result == 0 && session->tlvs != NULL;
    return result;
}

struct lb_greeted lb_greeting_read_header(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_listener *listener = lb_snapshot_listener(worker->snapshot, session->ticket.listener);
    struct lb_side *client = &session->client;
    struct lb_io_result seen = lb_side_peek(client, worker->relay_env.scratch, LB_PROXY_HEADER_MAX);
    struct lb_proxy_header header;
    int len;

    if (seen.io == LB_IO_WAIT)
        return more;
    if (listener == NULL)
        return rejected(L4LB_REJECT_CLOSED);
    len = seen.bytes > 0 ? lb_proxy_parse(worker->relay_env.scratch, seen.bytes, &header) : 0;
    if (len == 0 && seen.bytes > 0 && !client->hup)
        return more;
    if (len == 0 && (seen.bytes == 0 ||
                     client->error)) /* the client left before its header was complete: that is not an invalid header */
        return rejected(L4LB_REJECT_CLOSED);
    if (len > 0 && keep_tlvs(session, &header) < 0)
        return rejected(L4LB_REJECT_RESOURCE);
    if (len <= 0 || lb_side_recv(client, worker->relay_env.scratch, (uint32_t)len).bytes != (uint32_t)len)
        return rejected(L4LB_REJECT_PROXY_INVALID);
    if (!header.local && header.source.family != 0) {
        session->peer = header.source;
        session->destination = header.destination;
    }
    if (!lb_admission_identify(&session->ticket, listener, &session->peer))
        return rejected(L4LB_REJECT_DENIED);
    return lb_greeting_admit(listener);
}

/* ---- the server name --------------------------------------------------------------------------------------------- */

/* The pool for a client that begins with these bytes. */
static uint32_t route(const struct lb_listener *listener, struct lb_session *session, enum lb_hello hello,
                      const struct lb_server_name *name) {
    int pool = -ENOENT;

    if (hello == LB_HELLO_NAMED) {
        session->server_name = lb_server_name_hash(name);
        if (listener->routes != NULL)
            pool = lb_routes_find(listener->routes, name);
    }
    return pool >= 0 ? (uint32_t)pool : listener->pool;
}

/* No ClientHello, or one cut short by a FIN: no server name. */
struct lb_greeted lb_greeting_read_hello(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_listener *listener = lb_snapshot_listener(worker->snapshot, session->ticket.listener);
    struct lb_side *client = &session->client;
    struct lb_server_name name;
    enum lb_hello hello;
    struct lb_io_result seen = {LB_IO_BROKEN, 0};

    if (listener == NULL)
        return rejected(L4LB_REJECT_CLOSED);
    if (!client->error)
        seen = lb_side_peek(client, worker->relay_env.scratch, LB_COPY_BYTES);
    if (seen.io == LB_IO_WAIT)
        return more;
    if (seen.io == LB_IO_BROKEN)
        return (struct lb_greeted){.how = LB_GREETING_ABANDONED, .pool = listener->pool};
    hello = lb_client_hello_parse(worker->relay_env.scratch, seen.bytes, &name);
    if (hello == LB_HELLO_MORE && seen.bytes < LB_COPY_BYTES && !client->hup)
        return more;
    return towards(route(listener, session, hello, &name));
}

struct lb_greeted lb_greeting_expire(const struct lb_worker *worker, const struct lb_session *session) {
    const struct lb_listener *listener = lb_snapshot_listener(worker->snapshot, session->ticket.listener);

    if (session->state == LB_SESSION_HEADER)
        return rejected(L4LB_REJECT_PROXY_TIMEOUT);
    return listener == NULL ? rejected(L4LB_REJECT_CLOSED) : towards(listener->pool);
}
