/* A receiver that grants everything. Prints its port, and then for each request the nanoseconds of CLOCK_MONOTONIC at its
   arrival and its path. Ends when its standard output has no reader. One thread, so that it does not disturb what it measures. */
#define _GNU_SOURCE
#include "common.h"

#define CONNECTIONS 1024
// In bytes. Larger than any request: the output of `dd if=/dev/zero` has six bytes of JSON for each byte.
#define MAX_REQUEST_SIZE (1 << 20)

// What has arrived on each connection and is not answered yet.
static struct { char *text; long size; } requests[CONNECTIONS];

// Answers the complete requests of the connection with this index.
static void answer(int fd, int slot) {
    static const char ok[] = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}";
    for (long size; (size = message_size(requests[slot].text, requests[slot].size)) > 0;) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        char *path = strchr(requests[slot].text, ' ') + 1;
        printf("%lld %.*s\n", now.tv_sec * 1000000000LL + now.tv_nsec, (int)strcspn(path, " "), path);
        if (write(fd, ok, sizeof ok - 1) < 0) perror("write");
        fflush(stdout);
        requests[slot].size -= size;
        memmove(requests[slot].text, requests[slot].text + size, requests[slot].size + 1);
    }
}

int main(void) {
    static struct pollfd fds[CONNECTIONS];
    int one = 1, count = 2, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 512)) fail("listen");
    getsockname(listener, (void *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    // poll reports POLLERR for a pipe without a reader.
    fds[1] = (struct pollfd){.fd = STDOUT_FILENO};
    for (;;) {
        if (poll(fds, count, -1) < 0) fail("poll");
        if (fds[1].revents) return 0;
        for (int i = count - 1; i > 1; i--) {
            if (!fds[i].revents) continue;
            long size = requests[i].size;
            ssize_t got = read(fds[i].fd, requests[i].text + size, MAX_REQUEST_SIZE - size - 1);
            if (got <= 0) {
                close(fds[i].fd);
                free(requests[i].text);
                fds[i] = fds[--count];
                requests[i] = requests[count];
                continue;
            }
            requests[i].size += got;
            requests[i].text[requests[i].size] = 0;
            answer(fds[i].fd, i);
        }
        if (fds[0].revents && count < CONNECTIONS) {
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            fds[count] = (struct pollfd){.fd = fd, .events = POLLIN};
            requests[count].text = malloc(MAX_REQUEST_SIZE);
            requests[count++].size = 0;
        }
    }
}
