/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "hellos.h"
#include "protocol/client_hello.h"

enum { ROOM = 128 * 1024, N_RECORDED = sizeof recorded / sizeof recorded[0], RECORD_FIXED = 5, MUTATIONS = 20000 };

struct bytes {
    uint8_t data[ROOM];
    size_t len;
};

static struct lb_server_name found;

/* Parse a copy that ends where the input ends, so that a sanitizer sees any read or write beyond. */
static enum lb_hello parse(const uint8_t *data, size_t len) {
    uint8_t *exact = malloc(len);
    enum lb_hello result;

    CHECK(len == 0 || exact != NULL);
    if (len > 0)
        memcpy(exact, data, len);
    memset(&found, 0, sizeof found);
    result = lb_client_hello_parse(exact, len, &found);
    free(exact);
    return result;
}

static enum lb_hello parse_bytes(const struct bytes *bytes) { return parse(bytes->data, bytes->len); }

static void check_name(const char *expected) {
    CHECK_EQ(found.len, strlen(expected));
    CHECK_EQ(memcmp(found.text, expected, found.len), 0);
}

/* ---- hellos to parse --------------------------------------------------------------------------------------------- */

static void put(struct bytes *bytes, const void *data, size_t len) {
    CHECK(bytes->len + len <= ROOM);
    if (len > 0)
        memcpy(bytes->data + bytes->len, data, len);
    bytes->len += len;
}

static void put_zeros(struct bytes *bytes, size_t len) {
    CHECK(bytes->len + len <= ROOM);
    memset(bytes->data + bytes->len, 0, len);
    bytes->len += len;
}

static void put_number(struct bytes *bytes, size_t width, size_t value) {
    while (width-- > 0)
        put(bytes, &(uint8_t){(uint8_t)(value >> 8 * width)}, 1);
}

static void put_vector(struct bytes *bytes, size_t width, const void *data, size_t len) {
    put_number(bytes, width, len);
    put(bytes, data, len);
}

static void put_extension(struct bytes *bytes, uint16_t type, const void *data, size_t len) {
    put_number(bytes, 2, type);
    put_vector(bytes, 2, data, len);
}

/* An entry of a server_name extension. */
static void put_name(struct bytes *bytes, uint8_t type, const char *name) {
    put_number(bytes, 1, type);
    put_vector(bytes, 2, name, strlen(name));
}

static void put_names(struct bytes *extensions, const struct bytes *names) {
    static struct bytes list;

    list.len = 0;
    put_vector(&list, 2, names->data, names->len);
    put_extension(extensions, 0, list.data, list.len);
}

static void put_host(struct bytes *extensions, const char *name) {
    static struct bytes names;

    names.len = 0;
    put_name(&names, 0, name);
    put_names(extensions, &names);
}

/* A ClientHello without the record around it. `extensions` may be NULL: there is no such block then. */
static void message(struct bytes *out, const struct bytes *extensions) {
    static struct bytes body;

    body.len = 0;
    put_number(&body, 2, 0x0303);
    put_zeros(&body, 32);
    put_vector(&body, 1, "0123456789abcdef0123456789abcdef", 32);
    put_vector(&body, 2, "\x0a\x0a\x13\x01", 4);
    put_vector(&body, 1, "", 1);
    if (extensions != NULL)
        put_vector(&body, 2, extensions->data, extensions->len);
    out->len = 0;
    put_number(out, 1, 1);
    put_vector(out, 3, body.data, body.len);
}

/* In records whose fragments have at most this many bytes. */
static void records(struct bytes *out, const uint8_t *data, size_t len, size_t most) {
    out->len = 0;
    for (size_t at = 0; at < len; at += most) {
        put_number(out, 1, 22);
        put_number(out, 2, 0x0301);
        put_vector(out, 2, data + at, len - at < most ? len - at : most);
    }
}

static void hello(struct bytes *out, const struct bytes *extensions) {
    static struct bytes whole;

    message(&whole, extensions);
    records(out, whole.data, whole.len, 16384);
}

static enum lb_hello parse_with(const struct bytes *extensions) {
    static struct bytes bytes;

    hello(&bytes, extensions);
    return parse_bytes(&bytes);
}

static enum lb_hello parse_host(const char *name) {
    static struct bytes extensions;

    extensions.len = 0;
    put_host(&extensions, name);
    return parse_with(&extensions);
}

static void unhex(const char *hex, struct bytes *out) {
    out->len = 0;
    for (; hex[0] != '\0'; hex += 2) {
        unsigned byte;
        CHECK_EQ(sscanf(hex, "%2x", &byte), 1);
        put_number(out, 1, byte);
    }
}

/* ---- properties that every input has ----------------------------------------------------------------------------- */

/* However much of the stream is there, the answer is "more" or already the last one. */
static void check_every_prefix(const struct bytes *bytes, size_t step) {
    enum lb_hello whole = parse_bytes(bytes);
    struct lb_server_name name = found;
    bool decided = false;

    for (size_t len = 0; len < bytes->len; len += step) {
        enum lb_hello now = parse(bytes->data, len);
        if (now == LB_HELLO_MORE) {
            CHECK(!decided);
            continue;
        }
        decided = true;
        CHECK_EQ(now, whole);
        CHECK(now != LB_HELLO_NAMED || memcmp(&name, &found, sizeof name) == 0);
    }
}

/* A name comes in the one spelling. */
static void check_spelling(void) {
    CHECK(found.len > 0 && found.len <= LB_SERVER_NAME_MAX);
    for (uint32_t i = 0; i < found.len; i++)
        CHECK(strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.", found.text[i]) != NULL && found.text[i] != '\0');
}

/* ---- real clients ------------------------------------------------------------------------------------------------ */

TEST(every_recorded_client_is_understood) {
    static struct bytes bytes;

    for (size_t i = 0; i < N_RECORDED; i++) {
        bool named = recorded[i].name[0] != '\0';
        unhex(recorded[i].hex, &bytes);
        CHECK_EQ(parse_bytes(&bytes), named ? LB_HELLO_NAMED : LB_HELLO_NAMELESS);
        if (named)
            check_name(recorded[i].name);
    }
}

TEST(byte_by_byte_says_the_same_as_at_once) {
    static struct bytes bytes;

    for (size_t i = 0; i < N_RECORDED; i++) {
        unhex(recorded[i].hex, &bytes);
        for (size_t len = 0; len < bytes.len; len++)
            CHECK_EQ(parse(bytes.data, len), LB_HELLO_MORE);
        put(&bytes, "\x14\x03\x03\0\1\1\xff garbage", 15);
        check_every_prefix(&bytes, 1);
    }
}

TEST(a_hello_in_many_records_says_the_same_as_in_one) {
    static struct bytes bytes, split;

    for (size_t i = 0; i < N_RECORDED; i++) {
        for (size_t most = 1; most < 600; most += most < 20 ? 1 : 97) {
            unhex(recorded[i].hex, &bytes);
            records(&split, bytes.data + RECORD_FIXED, bytes.len - RECORD_FIXED, most);
            CHECK_EQ(parse_bytes(&split), recorded[i].name[0] != '\0' ? LB_HELLO_NAMED : LB_HELLO_NAMELESS);
            check_name(recorded[i].name);
            check_every_prefix(&split, 61);
        }
    }
}

/* ---- what is no ClientHello -------------------------------------------------------------------------------------- */

TEST(what_is_no_tls_is_told_from_its_first_bytes) {
    static const struct {
        const char *data;
        size_t len;
    } others[] = {
        {"G", 1},                              /* HTTP */
        {"SSH-2.0-x", 1},                      /* SSH */
        {"\x80\x2e\x01\x03\x01", 1},           /* SSL 2.0 */
        {"\x00\x00\x00\x08", 1},               /* PostgreSQL */
        {"\x16\x02", 2},                       /* a major version before SSL 3.0 */
        {"\x16\x04", 2},                       /* and one that there is not */
        {"\x15\x03\x01\x00\x02", 1},           /* an alert */
        {"\x17\x03\x03", 1},                   /* application data */
        {"\x16\x03\x01\x00\x00", 5},           /* an empty fragment */
        {"\x16\x03\x01\x40\x01", 5},           /* too long a record */
        {"\x16\x03\x01\x01\x00\2", 6},         /* a ServerHello */
        {"\x16\x03\x01\x01\x00\1\0\x40\0", 9}, /* too long a message */
        {"\x16\x03\x01\x01\x00\1\1\0\0", 9},
    };

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        for (size_t len = 0; len < others[i].len; len++)
            CHECK_EQ(parse((const uint8_t *)others[i].data, len), LB_HELLO_MORE);
        CHECK_EQ(parse((const uint8_t *)others[i].data, others[i].len), LB_HELLO_NONE);
    }
}

TEST(another_record_within_the_hello_makes_it_none) {
    static struct bytes whole, bytes;

    message(&whole, NULL);
    records(&bytes, whole.data, whole.len, 20);
    bytes.data[RECORD_FIXED + 20] = 21;
    CHECK_EQ(parse_bytes(&bytes), LB_HELLO_NONE);
    bytes.data[RECORD_FIXED + 20] = 22;
    CHECK_EQ(parse_bytes(&bytes), LB_HELLO_NAMELESS);
}

TEST(the_longest_hello_is_read_and_a_longer_one_is_not) {
    static struct bytes extensions, padding, bytes;
    size_t others;

    extensions.len = padding.len = 0;
    put_host(&extensions, "a.example");
    put_extension(&extensions, 21, "", 0);
    hello(&bytes, &extensions);
    others = bytes.len - RECORD_FIXED;
    put_zeros(&padding, LB_CLIENT_HELLO_MAX - others);
    extensions.len = 0;
    put_host(&extensions, "a.example");
    put_extension(&extensions, 21, padding.data, padding.len);
    hello(&bytes, &extensions);
    CHECK_EQ(bytes.len, LB_CLIENT_HELLO_MAX + RECORD_FIXED);
    CHECK_EQ(parse(bytes.data, bytes.len - 1), LB_HELLO_MORE);
    CHECK_EQ(parse_bytes(&bytes), LB_HELLO_NAMED);
    check_name("a.example");
    extensions.len = 0;
    put_host(&extensions, "a.example");
    put_zeros(&padding, 1);
    put_extension(&extensions, 21, padding.data, padding.len);
    hello(&bytes, &extensions);
    CHECK_EQ(parse_bytes(&bytes), LB_HELLO_NONE);
}

/* A ClientHello of these fields, the last of which stands where its extensions do. */
static enum lb_hello parse_fields(size_t version, size_t session_id, size_t ciphers, size_t compressions, size_t rest) {
    static const uint8_t zeros[64];
    static struct bytes body, whole, bytes;

    body.len = whole.len = 0;
    put_number(&body, 2, version);
    put_zeros(&body, 32);
    put_vector(&body, 1, zeros, session_id);
    put_vector(&body, 2, zeros, ciphers);
    put_vector(&body, 1, zeros, compressions);
    put_zeros(&body, rest);
    put_number(&whole, 1, 1);
    put_vector(&whole, 3, body.data, body.len);
    records(&bytes, whole.data, whole.len, 16384);
    return parse_bytes(&bytes);
}

TEST(a_field_that_can_not_be_makes_it_none) {
    CHECK_EQ(parse_fields(0x0303, 32, 2, 1, 0), LB_HELLO_NAMELESS);
    CHECK_EQ(parse_fields(0x0300, 0, 2, 1, 2), LB_HELLO_NAMELESS);
    CHECK_EQ(parse_fields(0x0200, 32, 2, 1, 0), LB_HELLO_NONE);
    CHECK_EQ(parse_fields(0x0303, 33, 2, 1, 0), LB_HELLO_NONE);
    CHECK_EQ(parse_fields(0x0303, 32, 0, 1, 0), LB_HELLO_NONE);
    CHECK_EQ(parse_fields(0x0303, 32, 3, 1, 0), LB_HELLO_NONE);
    CHECK_EQ(parse_fields(0x0303, 32, 2, 0, 0), LB_HELLO_NONE);
    CHECK_EQ(parse_fields(0x0303, 32, 2, 1, 1), LB_HELLO_NONE);
    CHECK_EQ(parse_fields(0x0303, 32, 2, 1, 3), LB_HELLO_NONE);
}

TEST(bytes_behind_a_list_of_names_make_it_none) {
    static struct bytes extensions;

    extensions.len = 0;
    put_extension(&extensions, 0, "\0\4\0\0\1a", 6);
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NAMED);
    extensions.len = 0;
    put_extension(&extensions, 0, "\0\4\0\0\1ab", 7);
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NONE);
}

/* Every length in a hello, made one longer and one shorter, so that it does not fit what is around it. */
TEST(a_length_that_lies_makes_it_none) {
    static struct bytes extensions, bytes;
    static const struct {
        size_t at, width;
    } lengths[] = {{43, 1}, {76, 2}, {82, 1}, {84, 2}, {88, 2}, {90, 2}, {93, 2}};

    extensions.len = 0;
    put_host(&extensions, "a.example");
    hello(&bytes, &extensions);
    CHECK_EQ(parse_bytes(&bytes), LB_HELLO_NAMED);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t *length = &bytes.data[lengths[i].at + lengths[i].width - 1];
        ++*length;
        CHECK_EQ(parse_bytes(&bytes), LB_HELLO_NONE);
        *length = (uint8_t)(*length - 2);
        CHECK_EQ(parse_bytes(&bytes), LB_HELLO_NONE);
        ++*length;
    }
    CHECK_EQ(parse_bytes(&bytes), LB_HELLO_NAMED);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

TEST(a_hello_without_extensions_has_no_name) {
    static struct bytes empty;

    CHECK_EQ(parse_with(NULL), LB_HELLO_NAMELESS);
    CHECK_EQ(parse_with(&empty), LB_HELLO_NAMELESS);
}

TEST(the_name_is_found_wherever_it_stands) {
    static struct bytes extensions;

    for (int place = 0; place < 3; place++) {
        extensions.len = 0;
        for (int i = 0; i < 3; i++) {
            if (i == place)
                put_host(&extensions, "A.Example");
            put_extension(&extensions, (uint16_t)(0x0a0a + 0x1010 * i), "grease", 6);
        }
        CHECK_EQ(parse_with(&extensions), LB_HELLO_NAMED);
        check_name("a.example");
    }
}

TEST(a_second_name_makes_it_none) {
    static struct bytes extensions, names;

    extensions.len = names.len = 0;
    put_host(&extensions, "a.example");
    put_host(&extensions, "a.example");
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NONE);
    extensions.len = 0;
    put_name(&names, 0, "a.example");
    put_name(&names, 0, "b.example");
    put_names(&extensions, &names);
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NONE);
}

TEST(names_of_other_types_are_passed_over) {
    static struct bytes extensions, names;

    extensions.len = names.len = 0;
    put_name(&names, 7, "something else");
    put_names(&extensions, &names);
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NAMELESS);
    extensions.len = 0;
    put_name(&names, 0, "a.example");
    put_names(&extensions, &names);
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NAMED);
    check_name("a.example");
}

TEST(an_empty_list_of_names_makes_it_none) {
    static struct bytes extensions, names;

    extensions.len = names.len = 0;
    put_names(&extensions, &names);
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NONE);
    extensions.len = 0;
    put_extension(&extensions, 0, "", 0);
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NONE);
}

TEST(what_is_no_host_name_is_no_name) {
    static const char *const others[] = {".",     ".a",    "a..b", "a..",      "a b",       "a\tb",  "a/b",
                                         "[::1]", "a:443", "*.a",  "\xc3\xbc", "a\x7f.com", "a\r\nb"};
    char label[LB_LABEL_MAX + 2] = {0};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        CHECK_EQ(parse_host(others[i]), LB_HELLO_NAMELESS);
    memset(label, 'a', LB_LABEL_MAX);
    CHECK_EQ(parse_host(label), LB_HELLO_NAMED);
    label[LB_LABEL_MAX] = 'a';
    CHECK_EQ(parse_host(label), LB_HELLO_NAMELESS);
}

TEST(a_nul_in_a_name_is_no_end_of_it) {
    static struct bytes extensions, names;

    extensions.len = names.len = 0;
    put_number(&names, 1, 0);
    put_vector(&names, 2, "good.example\0.evil.example", 26);
    put_names(&extensions, &names);
    CHECK_EQ(parse_with(&extensions), LB_HELLO_NAMELESS);
}

TEST(a_name_has_one_spelling) {
    static const char *const same[] = {"a-1.b_2.example", "A-1.B_2.EXAMPLE", "a-1.b_2.example."};
    uint64_t hash = 0;

    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        CHECK_EQ(parse_host(same[i]), LB_HELLO_NAMED);
        check_name(same[0]);
        CHECK(i == 0 || lb_server_name_hash(&found) == hash);
        hash = lb_server_name_hash(&found);
    }
    CHECK(hash != 0);
}

TEST(the_longest_name_is_read_and_a_longer_one_is_not) {
    char name[LB_SERVER_NAME_MAX + 2] = {0};

    for (size_t i = 0; i < LB_SERVER_NAME_MAX; i++)
        name[i] = i % 50 == 49 ? '.' : 'a';
    CHECK_EQ(parse_host(name), LB_HELLO_NAMED);
    check_name(name);
    name[LB_SERVER_NAME_MAX] = 'a';
    CHECK_EQ(parse_host(name), LB_HELLO_NAMELESS);
}

/* ---- anything ---------------------------------------------------------------------------------------------------- */

static void mutate(struct check_random *random, struct bytes *bytes) {
    for (uint32_t n = 1 + check_random_below(random, 4); n > 0; n--) {
        uint32_t at = check_random_below(random, (uint32_t)bytes->len);
        switch (check_random_below(random, 5)) {
        case 0:
            bytes->data[at] = (uint8_t)check_random_next(random);
            break;
        case 1:
            bytes->data[at] ^= (uint8_t)(1u << check_random_below(random, 8));
            break;
        case 2:
            bytes->data[at] = (uint8_t)(bytes->data[at] + check_random_below(random, 3) - 1);
            break;
        case 3: /* cut out */
            memmove(bytes->data + at, bytes->data + at + 1, bytes->len - at - 1);
            bytes->len -= bytes->len > 1;
            break;
        case 4: /* cut off */
            if (check_random_below(random, 8) == 0 && at > 0)
                bytes->len = at;
            break;
        }
    }
}

TEST(mutated_hellos_do_no_harm) {
    static struct bytes bytes, split;
    struct check_random random = {.state = 11};
    int named = 0, none = 0;

    for (int round = 0; round < MUTATIONS; round++) {
        unhex(recorded[check_random_below(&random, N_RECORDED)].hex, &bytes);
        if (check_random_below(&random, 2) == 0) {
            records(&split, bytes.data + RECORD_FIXED, bytes.len - RECORD_FIXED, 1 + check_random_below(&random, 400));
            bytes = split;
        }
        mutate(&random, &bytes);
        switch (parse_bytes(&bytes)) {
        case LB_HELLO_NAMED:
            check_spelling();
            named++;
            break;
        case LB_HELLO_NONE:
            none++;
            break;
        default:
            break;
        }
        if (round % 16 == 0)
            check_every_prefix(&bytes, 1 + check_random_below(&random, 40));
    }
    /* Neither everything nor nothing survived: the mutations are of the right size. */
    CHECK(named > MUTATIONS / 10);
    CHECK(none > MUTATIONS / 10);
}

TEST(noise_behind_a_plausible_head_does_no_harm) {
    static struct bytes bytes;
    struct check_random random = {.state = 12};

    for (int round = 0; round < MUTATIONS; round++) {
        uint32_t body = check_random_below(&random, 300);
        bytes.len = 0;
        put_number(&bytes, 3, 0x160301);
        put_number(&bytes, 2, 4 + body);
        put_number(&bytes, 1, 1);
        put_number(&bytes, 3, body);
        put_number(&bytes, 2, 0x0303);
        put_zeros(&bytes, 32);
        while (bytes.len < RECORD_FIXED + 4 + body)
            put_number(&bytes, 1, check_random_below(&random, check_random_below(&random, 4) == 0 ? 256 : 4));
        if (parse_bytes(&bytes) == LB_HELLO_NAMED)
            check_spelling();
        check_every_prefix(&bytes, 1 + check_random_below(&random, 60));
    }
}

TEST_MAIN()
