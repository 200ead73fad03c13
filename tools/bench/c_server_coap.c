/* The peer of c_client_limit: answers every CoAP request with a piggybacked ACK, in batches.
 *
 * usage: c_server_coap PORT
 *
 * It looks only at the header and the token: it must cost less than any client it serves.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, SIZE = 2048 };

static int answer(const unsigned char *in, int n, unsigned char *out)
{
    if (n < 4)
        return 0;
    int token = in[0] & 15, type = (in[0] >> 4) & 3, o = 0;
    if (type > 1 || in[1] == 0 || 4 + token > n)
        return 0;
    out[o++] = 0x40 | ((type == 0 ? 2 : 1) << 4) | token;
    out[o++] = in[1] == 1 ? 0x45 : 0x44; /* 2.05 Content to GET, 2.04 Changed to the rest */
    out[o++] = in[2];
    out[o++] = in[3];
    memcpy(out + o, in + 4, token);
    o += token;
    out[o++] = 0xc0; /* Content-Format 0 */
    out[o++] = 0xff;
    memcpy(out + o, "hello", 5);
    return o + 5;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: c_server_coap PORT\n");
        return 2;
    }
    int sock = socket(AF_INET, SOCK_DGRAM, 0), buffer = 4 << 20;
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons(atoi(argv[1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(sock, (void *)&here, sizeof here)) {
        perror("c_server_coap: bind");
        return 1;
    }
    socklen_t size = sizeof here;
    getsockname(sock, (void *)&here, &size);
    printf("%d\n", ntohs(here.sin_port)); /* PORT 0 takes a free one */
    fflush(stdout);

    static unsigned char in[BATCH][SIZE], out[BATCH][SIZE];
    static struct sockaddr_in from[BATCH];
    struct mmsghdr got[BATCH], put[BATCH];
    struct iovec got_at[BATCH], put_at[BATCH];
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            got_at[i] = (struct iovec){in[i], SIZE};
            got[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &from[i],
                                                  .msg_namelen = sizeof from[i],
                                                  .msg_iov = &got_at[i],
                                                  .msg_iovlen = 1}};
        }
        int n = recvmmsg(sock, got, BATCH, MSG_WAITFORONE, 0), k = 0;
        for (int i = 0; i < n; i++) {
            int length = answer(in[i], got[i].msg_len, out[k]);
            if (!length)
                continue;
            put_at[k] = (struct iovec){out[k], length};
            put[k] = (struct mmsghdr){.msg_hdr = {.msg_name = &from[i],
                                                  .msg_namelen = sizeof from[i],
                                                  .msg_iov = &put_at[k],
                                                  .msg_iovlen = 1}};
            k++;
        }
        for (int done = 0; done < k;) {
            int r = sendmmsg(sock, put + done, k - done, 0);
            done += r > 0 ? r : 1;
        }
    }
}
