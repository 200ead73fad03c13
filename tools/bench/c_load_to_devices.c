/* The load: a "server" that sends confirmable requests to many devices, a window of them at once.
 *
 * usage: c_load_to_devices BASE DEVICES COUNT WINDOW SOURCE_PORT FIRST_ID PATH [PAYLOAD BLOCKS]
 *
 * Device i listens on 127.BASE.(i/250 >> 8).(i/250 & 255), port 10000 + i % 250. The load speaks
 * from 127.0.0.1:SOURCE_PORT, the server that the devices are registered with. Without PAYLOAD it
 * sends GET PATH; with it, PUT PATH with PAYLOAD bytes (1024 for a full block) and a Block1 option
 * that counts up to BLOCKS per device and then begins again, each block with "more" set.
 * The last line of the output is
 *     done N lost L refused R
 * where R counts the answers that are not of class 2.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int put_path(unsigned char *b, const char *path)
{
    int o = 0, first = 1;
    while (*path) {
        int n = strcspn(path, "/");
        b[o++] = (first ? 0xb0 : 0) | n; /* Uri-Path is option 11 */
        memcpy(b + o, path, n);
        o += n;
        path += n + (path[n] == '/');
        first = 0;
    }
    return o;
}

int main(int argc, char **argv)
{
    if (argc != 8 && argc != 10) {
        fprintf(stderr, "usage: c_load_to_devices BASE DEVICES COUNT WINDOW SOURCE_PORT FIRST_ID "
                        "PATH [PAYLOAD BLOCKS]\n");
        return 2;
    }
    int base = atoi(argv[1]), devices = atoi(argv[2]), window = atoi(argv[4]);
    long count = atol(argv[3]), sent = 0, done = 0, lost = 0, refused = 0;
    int payload = argc == 10 ? atoi(argv[8]) : 0, blocks = argc == 10 ? atoi(argv[9]) : 1;
    unsigned first_id = atoi(argv[6]);
    int sock = socket(AF_INET, SOCK_DGRAM, 0), buffer = 4 << 20;
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    struct timeval patience = {1, 0};
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons(atoi(argv[5])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(sock, (void *)&here, sizeof here)) {
        perror("c_load_to_devices: bind");
        return 1;
    }
    unsigned char path[256], b[4096];
    int path_size = put_path(path, argv[7]);
    while (done + lost < count) {
        while (sent < count && sent - done - lost < window) {
            int device = sent % devices, o = 0;
            struct sockaddr_in there = {.sin_family = AF_INET,
                                        .sin_port = htons(10000 + device % 250)};
            there.sin_addr.s_addr = htonl(0x7f000000 | base << 16 | device / 250);
            b[o++] = 0x44; /* CON, token of 4 bytes */
            b[o++] = payload ? 3 : 1;
            b[o++] = (first_id + sent) >> 8;
            b[o++] = first_id + sent;
            memcpy(b + o, &sent, 4);
            o += 4;
            memcpy(b + o, path, path_size);
            o += path_size;
            if (payload) {
                unsigned number = sent / devices % blocks, value = number << 4 | 0x0e;
                int size = value < 256 ? 1 : value < 65536 ? 2 : 3;
                b[o++] = 0xd0 | size; /* Block1 is option 27: 11 + 13 + 3 */
                b[o++] = 3;
                for (int i = size - 1; i >= 0; i--)
                    b[o++] = value >> 8 * i;
                b[o++] = 0xff;
                memset(b + o, number, payload);
                o += payload;
            }
            sendto(sock, b, o, 0, (void *)&there, sizeof there);
            sent++;
        }
        int n = recv(sock, b, sizeof b, 0);
        if (n < 0) {
            lost = sent - done; /* a second without any answer */
            continue;
        }
        done++;
        if (n < 4 || b[1] >> 5 != 2)
            refused++;
    }
    printf("done %ld lost %ld refused %ld\n", done, lost, refused);
    return 0;
}
