/* SPDX-License-Identifier: Apache-2.0 */
/* For libFuzzer: `make fuzz` runs it, starting with the inputs in http1/. */
#include "http1_splits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    http1_check_splits(data, size);
    return 0;
}
