/* Appends records "c 0", "c 1", ... to a ring; told so, in a mode in which the kernel kills it at any system call. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <linux/seccomp.h>
#include <unistd.h>

#include "tidemill_ring.h"

enum { UNABLE = 77, WRONG = 1 };

/* Leaves by the one way that strict mode allows: exit() itself makes other calls. */
static void leave(int code) {
    syscall(SYS_exit, code);
}

/* Writes "c NUMBER" without the C library, which may call the system. */
static size_t write_record(char *record, uint64_t number) {
    char digits[20];
    size_t count = 0, length = 2;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    memcpy(record, "c ", 2);
    while (count > 0) record[length++] = digits[--count];
    return length;
}

int main(int argc, char **argv) {
    if (argc != 4) return WRONG;
    const uint64_t records = strtoull(argv[2], NULL, 10);
    const int strict = strcmp(argv[3], "strict") == 0;

    char message[300];
    tidemill_ring_producer *producer = NULL;
    int code = tidemill_ring_open(argv[1], &producer, message, sizeof message);
    if (code != TIDEMILL_RING_OK) {
        fprintf(stderr, "%d %s: %s\n", code, tidemill_ring_error_text(code), message);
        return code == TIDEMILL_RING_PLACES_TAKEN ? 3 : 2;
    }
    if (strict && prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) {
        fprintf(stderr, "strict mode: %s\n", strerror(errno));
        return UNABLE;
    }
    for (uint64_t number = 0; number < records;) {
        char record[24];
        uint64_t position = UINT64_MAX;
        code = tidemill_ring_append(producer, record, write_record(record, number), &position);
        if (code == TIDEMILL_RING_FULL) continue;
        if (code != TIDEMILL_RING_OK || position < number) leave(WRONG);
        number++;
    }
    if (strict) leave(0);
    /* Released: the reader has them all. */
    while (tidemill_ring_released(producer) < records) usleep(1000);
    tidemill_ring_close(producer);
    return 0;
}
