/* What the C programs of the benchmark share: connecting, reading one HTTP message, the clock. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* The length of the body that these headers announce. */
static long body_length(const char *head) {
    for (const char *line = head; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncasecmp(line, "content-length:", 15) == 0) return atol(line + 15);
    }
    return 0;
}

/* The size of the complete message at the beginning of `text`; 0 if it is not complete. */
static long message_size(const char *text, long size) {
    const char *end = memmem(text, size, "\r\n\r\n", 4);
    if (!end) return 0;
    long all = end + 4 - text + body_length(text);
    return size >= all ? all : 0;
}
