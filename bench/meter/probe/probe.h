/* What the modes of the probe share. */
#ifndef PROBE_H
#define PROBE_H

#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	PORT = 7007,
	LIMIT_S = 120, /* every mode ends by itself */
	FLOWS = 4,
	BATCH = 64, /* datagrams a system call */
	RATE_MAX = 50000, /* numbers a second */
};

#define NS INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

extern volatile sig_atomic_t stopped; /* SIGTERM has come */

_Noreturn void die(const char *what);
int64_t now_ns(void);
void sleep_ns(int64_t ns);
void be_prompt(void);
void be_stoppable(void);
socklen_t parse_address(const char *text, int port, struct sockaddr_storage *address);
int bound_socket(const char *text, int port, int type);

/* Each gets the words behind its name and returns an exit code; 2: it was not used so. */
int send_mode(int count, char **word);
int receive_mode(int count, char **word);
int serve_mode(int count, char **word);
int connect_mode(int count, char **word);
int run_mode(char **word);

#endif
