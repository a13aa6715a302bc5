/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/http1.h"

#include "protocol/http1_field.h"
#include "protocol/http1_text.h"

enum { HEAD_MAX = 64 * 1024, CHUNK_DIGITS_MAX = 16, STATUS_DIGITS = 3 };
enum {
    STATUS_MIN = 100,
    STATUS_EARLY_HINTS = 103,
    STATUS_FINAL = 200,
    STATUS_NO_CONTENT = 204,
    STATUS_NOT_MODIFIED = 304
};
enum { CONNECT, DELETE, GET, HEAD, OPTIONS, PRI, PUT, TRACE };

static const struct lb_word methods[] = {[CONNECT] = {"CONNECT", 0}, [DELETE] = {"DELETE", 0},   [GET] = {"GET", 0},
                                         [HEAD] = {"HEAD", 0},       [OPTIONS] = {"OPTIONS", 0}, [PRI] = {"PRI", 0},
                                         [PUT] = {"PUT", 1},         [TRACE] = {"TRACE", 0},     {NULL, 0}};

typedef enum lb_http1_event taker(struct lb_http1 *reader, struct bytes *in);

/* ---- start lines ------------------------------------------------------------------------------------------------- */

static enum lb_http1_event bad_start(struct lb_http1 *reader) {
    return pin(reader, reader->is_first ? L4LB_PIN_NOT_HTTP : L4LB_PIN_SYNTAX);
}

static enum lb_http1_event take_between(struct lb_http1 *reader, struct bytes *in) {
    uint8_t byte = *in->at++;

    if (byte == '\r' && !reader->is_response)
        return go_on(reader, EMPTY_LF);
    if (reader->is_response ? byte != 'H' : !lb_is_token(byte))
        return bad_start(reader);
    *reader = (struct lb_http1){.is_response = reader->is_response, .is_first = reader->is_first, .head_bytes = 1};
    reader->state = reader->is_response ? VERSION : METHOD;
    if (reader->is_response)
        reader->at = 1;
    else
        (void)lb_word_take(&reader->word, methods, in->at - 1, in->at);
    return LB_HTTP1_BEGAN;
}

static enum lb_http1_event take_empty_lf(struct lb_http1 *reader, struct bytes *in) {
    return *in->at++ == '\n' ? go_on(reader, BETWEEN) : bad_start(reader);
}

static enum lb_http1_method method_of(uint8_t word) {
    if (word == LB_WORD_UNKNOWN)
        return LB_HTTP1_OTHER;
    if (word == CONNECT)
        return LB_HTTP1_CONNECT;
    return word == HEAD ? LB_HTTP1_HEAD_ONLY : LB_HTTP1_IDEMPOTENT;
}

static enum lb_http1_event take_method(struct lb_http1 *reader, struct bytes *in) {
    uint8_t word;

    in->at = lb_word_take(&reader->word, methods, in->at, in->end);
    if (in->at == in->end)
        return LB_HTTP1_MORE;
    word = lb_word_matched(reader->word, methods);
    if (*in->at++ != ' ' || word == PRI) /* PRI is how HTTP/2 begins */
        return bad_start(reader);
    reader->method = method_of(word) & 3;
    return go_on(reader, TARGET);
}

static enum lb_http1_event take_target(struct lb_http1 *reader, struct bytes *in) {
    const uint8_t *start = in->at;

    in->at = lb_visible_end(in->at, in->end);
    if (in->at > start)
        reader->at = 1; /* it isn't empty */
    if (in->at == in->end)
        return LB_HTTP1_MORE;
    return *in->at++ == ' ' && reader->at == 1 ? go_on(reader, VERSION) : bad_start(reader);
}

static enum lb_http1_event take_version(struct lb_http1 *reader, struct bytes *in) {
    static const char version[] = "HTTP/1.";
    uint8_t digit;

    for (; version[reader->at] != '\0'; reader->at++) {
        if (in->at == in->end)
            return LB_HTTP1_MORE;
        if (*in->at++ != version[reader->at])
            return bad_start(reader);
    }
    if (in->at == in->end)
        return LB_HTTP1_MORE;
    digit = *in->at++;
    reader->is_1_1 = digit == '1';
    return digit == '0' || digit == '1' ? go_on(reader, VERSION_END) : bad_start(reader);
}

static enum lb_http1_event take_version_end(struct lb_http1 *reader, struct bytes *in) {
    uint8_t byte = *in->at++;

    if (reader->is_response)
        return byte == ' ' ? go_on(reader, STATUS) : bad_start(reader);
    return byte == '\r' ? go_on(reader, LINE_LF) : bad_start(reader);
}

static bool is_interim(const struct lb_http1 *reader) { return reader->is_response && reader->status < STATUS_FINAL; }

static enum lb_http1_event take_status(struct lb_http1 *reader, struct bytes *in) {
    uint8_t byte = *in->at++;

    if (byte < '0' || byte > '9')
        return bad_start(reader);
    reader->status = (uint16_t)(reader->status * 10 + byte - '0');
    if (++reader->at < STATUS_DIGITS)
        return LB_HTTP1_MORE;
    if (reader->status < STATUS_MIN)
        return bad_start(reader);
    /* llhttp expects a body after an unknown 1xx */
    return reader->status > STATUS_EARLY_HINTS && is_interim(reader) ? pin(reader, L4LB_PIN_SYNTAX)
                                                                     : go_on(reader, STATUS_END);
}

/* Some servers leave out the reason together with the space before it. */
static enum lb_http1_event take_status_end(struct lb_http1 *reader, struct bytes *in) {
    uint8_t byte = *in->at++;

    if (byte == '\r')
        return go_on(reader, LINE_LF);
    return byte == ' ' ? go_on(reader, OTHER_VALUE) : bad_start(reader);
}

/* ---- the end of a head ------------------------------------------------------------------------------------------- */

static bool persists(const struct lb_http1 *reader) {
    return !reader->says_close && (reader->is_1_1 || reader->says_keep_alive);
}

static bool has_no_body(const struct lb_http1 *reader) {
    if (!reader->is_response)
        return !reader->is_chunked && reader->left == 0;
    return is_interim(reader) || reader->status == STATUS_NO_CONTENT || reader->status == STATUS_NOT_MODIFIED;
}

static enum state body_state(const struct lb_http1 *reader) {
    if (has_no_body(reader))
        return COMPLETE;
    if (reader->is_chunked)
        return CHUNK_FIRST;
    if (!reader->has_length)
        return UNTIL_CLOSE;
    return reader->left > 0 ? BODY : COMPLETE;
}

static enum lb_http1_event take_head_lf(struct lb_http1 *reader, struct bytes *in) {
    enum lb_http1_event event = expect(reader, in, '\n', reader->in_trailers ? BETWEEN : body_state(reader));

    if (event != LB_HTTP1_MORE)
        return event;
    if (reader->in_trailers)
        return LB_HTTP1_END;
    if (reader->is_chunked && (reader->has_length || !reader->is_1_1))
        return pin(reader, L4LB_PIN_LENGTH);
    if ((reader->says_close && reader->says_keep_alive) || (is_interim(reader) && !persists(reader)))
        return pin(reader, L4LB_PIN_SYNTAX);
    reader->closes = !persists(reader) || reader->state == UNTIL_CLOSE;
    reader->is_first = false;
    return LB_HTTP1_HEAD;
}

/* ---- bodies ------------------------------------------------------------------------------------------------------ */

/* Returns 16 for a byte that is not a hexadecimal digit. */
static uint8_t hex_digit(uint8_t byte) {
    if (byte >= '0' && byte <= '9')
        return (uint8_t)(byte - '0');
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? (uint8_t)(byte - 'a' + 10) : 16;
}

static enum lb_http1_event take_chunk_first(struct lb_http1 *reader, struct bytes *in) {
    reader->left = 0;
    return hex_digit(*in->at) < 16 ? go_on(reader, CHUNK_SIZE) : refuse(reader, in, L4LB_PIN_SYNTAX);
}

static enum lb_http1_event take_chunk_size(struct lb_http1 *reader, struct bytes *in) {
    uint8_t byte = *in->at++, digit = hex_digit(byte);

    if (byte == ';')
        return go_on(reader, CHUNK_EXTENSION);
    if (byte == '\r')
        return go_on(reader, CHUNK_LF);
    if (digit == 16)
        return pin(reader, L4LB_PIN_SYNTAX);
    if (reader->at++ == CHUNK_DIGITS_MAX || reader->left > INT64_MAX >> 4)
        return pin(reader, L4LB_PIN_LENGTH);
    reader->left = reader->left << 4 | digit;
    return LB_HTTP1_MORE;
}

static enum lb_http1_event take_chunk_extension(struct lb_http1 *reader, struct bytes *in) {
    return lb_http1_take_text(reader, in, CHUNK_LF);
}

static enum lb_http1_event take_chunk_lf(struct lb_http1 *reader, struct bytes *in) {
    reader->in_trailers = reader->left == 0;
    return expect(reader, in, '\n', reader->in_trailers ? NAME_FIRST : CHUNK_DATA);
}

static enum lb_http1_event take_data_cr(struct lb_http1 *reader, struct bytes *in) {
    return expect(reader, in, '\r', DATA_LF);
}

static enum lb_http1_event take_data_lf(struct lb_http1 *reader, struct bytes *in) {
    return expect(reader, in, '\n', CHUNK_FIRST);
}

/* True if nothing is left. */
static bool take_left(struct lb_http1 *reader, struct bytes *in) {
    uint64_t n = LB_MIN((uint64_t)(in->end - in->at), reader->left);

    in->at += n;
    reader->left -= n;
    return reader->left == 0;
}

static enum lb_http1_event take_chunk_data(struct lb_http1 *reader, struct bytes *in) {
    reader->head_bytes = 0;
    return take_left(reader, in) ? go_on(reader, DATA_CR) : LB_HTTP1_MORE;
}

static enum lb_http1_event take_body(struct lb_http1 *reader, struct bytes *in) {
    if (!take_left(reader, in))
        return LB_HTTP1_MORE;
    reader->state = BETWEEN;
    return LB_HTTP1_END;
}

static enum lb_http1_event take_until_close(struct lb_http1 *reader, struct bytes *in) {
    (void)reader;
    in->at = in->end;
    return LB_HTTP1_MORE;
}

static enum lb_http1_event take_nothing(struct lb_http1 *reader, struct bytes *in) {
    (void)in;
    return pin(reader, reader->pin);
}

/* ---- the reader -------------------------------------------------------------------------------------------------- */

static taker *const takers[N_STATES] = {
    [METHOD] = take_method,         [TARGET] = take_target,
    [VERSION] = take_version,       [VERSION_END] = take_version_end,
    [STATUS] = take_status,         [STATUS_END] = take_status_end,
    [HEAD_LF] = take_head_lf,       [CHUNK_FIRST] = take_chunk_first,
    [CHUNK_SIZE] = take_chunk_size, [CHUNK_EXTENSION] = take_chunk_extension,
    [CHUNK_LF] = take_chunk_lf,     [DATA_CR] = take_data_cr,
    [DATA_LF] = take_data_lf,       [BETWEEN] = take_between,
    [EMPTY_LF] = take_empty_lf,     [BODY] = take_body,
    [CHUNK_DATA] = take_chunk_data, [UNTIL_CLOSE] = take_until_close,
    [LOST] = take_nothing,
};

/* Lines of a head, a chunk or trailers, as far as HEAD_MAX allows. */
static enum lb_http1_event take_lines(struct lb_http1 *reader, struct bytes *in) {
    size_t n = LB_MIN((size_t)(in->end - in->at), (size_t)(HEAD_MAX - reader->head_bytes));
    struct bytes allowed = {in->at, in->at + n};
    enum lb_http1_event event = LB_HTTP1_MORE;

    while (event == LB_HTTP1_MORE && reader->state < N_LINE_STATES && allowed.at < allowed.end)
        event = reader->state < N_FIELD_STATES ? lb_http1_take_fields(reader, &allowed)
                                               : takers[reader->state](reader, &allowed);
    reader->head_bytes += (uint32_t)(allowed.at - in->at);
    in->at = allowed.at;
    if (event == LB_HTTP1_HEAD)
        reader->head_bytes = 0; /* the lines of a body have a bound of their own */
    if (event == LB_HTTP1_MORE && reader->state < N_LINE_STATES && reader->head_bytes == HEAD_MAX)
        return pin(reader, L4LB_PIN_TOO_LONG);
    return event;
}

void lb_http1_init(struct lb_http1 *reader, bool is_response) {
    *reader = (struct lb_http1){.state = BETWEEN, .is_response = is_response, .is_first = true};
}

size_t lb_http1_take(struct lb_http1 *reader, const uint8_t *data, size_t len, enum lb_http1_event *event) {
    struct bytes in = {data, data + len};

    *event = LB_HTTP1_MORE;
    if (reader->state == COMPLETE) {
        reader->state = BETWEEN;
        *event = LB_HTTP1_END;
    }
    while (*event == LB_HTTP1_MORE && in.at < in.end)
        *event = reader->state < N_LINE_STATES ? take_lines(reader, &in) : takers[reader->state](reader, &in);
    return (size_t)(in.at - data);
}

void lb_http1_expect_no_body(struct lb_http1 *reader) {
    reader->state = COMPLETE;
    reader->closes = !persists(reader);
}

bool lb_http1_is_between(const struct lb_http1 *reader) { return reader->state == BETWEEN; }

uint64_t lb_http1_unseen(const struct lb_http1 *reader) {
    if (reader->state == UNTIL_CLOSE)
        return UINT64_MAX;
    return reader->state == BODY ? reader->left : 0;
}

bool lb_http1_skip(struct lb_http1 *reader, uint64_t n) {
    LB_ASSERT_HOT(n <= lb_http1_unseen(reader));
    if (reader->state != BODY)
        return false;
    reader->left -= n;
    if (reader->left > 0)
        return false;
    reader->state = BETWEEN;
    return true;
}

bool lb_http1_ends_with_connection(const struct lb_http1 *reader) { return reader->state == UNTIL_CLOSE; }
