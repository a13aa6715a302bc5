/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "protocol/http1_text.h"

enum { UPPER_GET, AB, ABC, ABD, B };

static const struct lb_word words[] = {
    [UPPER_GET] = {"GET", 0}, [AB] = {"ab", 0}, [ABC] = {"abc", 2}, [ABD] = {"abd", 2}, [B] = {"b", 0}, {NULL, 0},
};

static uint8_t word_of(const char *text, size_t cut) {
    const uint8_t *bytes = (const uint8_t *)text;
    struct lb_word_match match = {0};

    CHECK(lb_word_take(&match, words, bytes, bytes + cut) == bytes + cut);
    CHECK(lb_word_take(&match, words, bytes + cut, bytes + strlen(text)) == bytes + strlen(text));
    return lb_word_matched(match, words);
}

TEST(a_word_is_found_wherever_its_letters_are_split) {
    static const struct {
        const char *text;
        uint8_t word;
    } cases[] = {
        {"ab", AB},
        {"abc", ABC},
        {"ABD", ABD},
        {"b", B},
        {"GET", UPPER_GET},
        {"", LB_WORD_UNKNOWN},
        {"a", LB_WORD_UNKNOWN},
        {"abe", LB_WORD_UNKNOWN},
        {"abcd", LB_WORD_UNKNOWN},
        {"ba", LB_WORD_UNKNOWN},
        {"get", LB_WORD_UNKNOWN},
        {"xab", LB_WORD_UNKNOWN},
        {"GE", LB_WORD_UNKNOWN},
        {"GETS", LB_WORD_UNKNOWN},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t cut = 0; cut <= strlen(cases[i].text); cut++)
            CHECK_EQ(word_of(cases[i].text, cut), cases[i].word);
    }
}

TEST(a_word_longer_than_a_byte_can_count_is_unknown) {
    char text[601];

    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (size_t cut = 0; cut < sizeof text; cut++)
        CHECK_EQ(word_of(text, cut), LB_WORD_UNKNOWN);
}

TEST(a_token_ends_with_the_first_byte_that_is_not_of_a_token) {
    static const char separators[] = "(),/:;<=>?@[\\]{}\" \t\x7f\r\n";

    for (unsigned byte = 0; byte < 256; byte++) {
        bool separates = byte <= ' ' || byte >= 0x7f || strchr(separators, (int)byte) != NULL;
        uint8_t text[] = {'a', (uint8_t)byte, 'b'};
        struct lb_word_match match = {0};
        CHECK_EQ(lb_is_token((uint8_t)byte), !separates);
        CHECK_EQ(lb_word_take(&match, words, text, text + 3) - text, separates ? 1 : 3);
    }
}

TEST(letters_of_tokens_are_told_in_lower_case) {
    CHECK_EQ(lb_token['Q'], 'q');
    CHECK_EQ(lb_token['q'], 'q');
    CHECK_EQ(lb_token['-'], '-');
    CHECK_EQ(lb_token['^'], '^');
}

/* Every byte at every place of a buffer that ends where it ends. */
TEST(text_ends_with_the_first_control_byte) {
    for (size_t len = 0; len < 20; len++) {
        uint8_t *text = malloc(len + 1);
        for (size_t at = 0; at <= len; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                memset(text, '~', len);
                memset(text + at, 0xff, len - at);
                text[at == len ? 0 : at] = at == len ? 'a' : (uint8_t)byte;
                CHECK_EQ(lb_text_end(text, text + len) - text, at < len && byte < ' ' ? at : len);
                CHECK_EQ(lb_visible_end(text, text + len) - text, at < len && byte <= ' ' ? at : len);
            }
        }
        free(text);
    }
}

TEST_MAIN()
