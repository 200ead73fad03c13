/* The physical limit: CPU per CoAP exchange of a trivial client that does nothing but I/O.
 *
 * usage: c_client_limit PORT SOCKETS COUNT
 *
 * SOCKETS connected sockets behind one epoll, one confirmable POST outstanding on each, COUNT
 * exchanges in all, with c_server_coap on PORT of 127.0.0.1. The last line of the output is
 *     done N user U sys S
 * with U and S in microseconds of CPU per exchange.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

static int request(unsigned char *b, unsigned device, unsigned mid)
{
    int o = 0;
    b[o++] = 0x44; /* CON, token of 4 bytes */
    b[o++] = 2;    /* POST */
    b[o++] = mid >> 8;
    b[o++] = mid;
    memcpy(b + o, &device, 4);
    o += 4;
    memcpy(b + o, "\xb2rd\x04" "abcd", 8); /* /rd and a second segment */
    return o + 8;
}

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: c_client_limit PORT SOCKETS COUNT\n");
        return 2;
    }
    int sockets = atoi(argv[2]);
    long count = atol(argv[3]), sent = 0, done = 0;
    struct sockaddr_in server = {.sin_family = AF_INET,
                                 .sin_port = htons(atoi(argv[1])),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int poll = epoll_create1(0), *fd = calloc(sockets, sizeof *fd);
    for (int i = 0; i < sockets; i++) {
        fd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        struct sockaddr_in here = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(0x7f010001 + i / 20000)};
        if (fd[i] < 0 || bind(fd[i], (void *)&here, sizeof here) ||
            connect(fd[i], (void *)&server, sizeof server)) {
            perror("c_client_limit: socket");
            return 1;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd[i], &event);
    }

    unsigned char b[2048];
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < sockets && sent < count; i++, sent++)
        send(fd[i], b, request(b, i, sent), 0);
    struct epoll_event ready[256];
    while (done < count) {
        int n = epoll_wait(poll, ready, 256, 2000);
        if (n == 0) {
            fprintf(stderr, "c_client_limit: %ld exchanges lost\n", sent - done);
            break;
        }
        for (int i = 0; i < n; i++) {
            int device = ready[i].data.u32;
            if (recv(fd[device], b, sizeof b, 0) < 0)
                continue;
            done++;
            if (sent < count) {
                send(fd[device], b, request(b, device, sent), 0);
                sent++;
            }
        }
    }
    getrusage(RUSAGE_SELF, &after);
    double user = seconds(after.ru_utime) - seconds(before.ru_utime);
    double sys = seconds(after.ru_stime) - seconds(before.ru_stime);
    printf("done %ld user %.4f sys %.4f\n", done, user * 1e6 / done, sys * 1e6 / done);
    return done == count ? 0 : 1;
}
