/* The meter: numbered UDP one way, new TCP connections, and one process's cost. Each mode prints one line of JSON.
 *
 *   probe send RATE SOURCE TARGET [SOURCE TARGET]...   RATE numbers a second on each flow, until SIGTERM
 *   probe receive ADDRESS...                           what arrived and what did not, until SIGTERM
 *   probe serve ADDRESS...                             accept TCP connections and close them, until SIGTERM
 *   probe connect EVERY_MS TARGET...                   open a TCP connection to each target every EVERY_MS, until SIGTERM
 *   probe run COMMAND [ARGUMENT]...                    wall time, CPU time and peak memory of one process and its children
 *   qemu-ANYTHING [ARGUMENT]...                        called so, it stands in for a guest and waits
 *
 * Theory of operation. A number is due at start + i / RATE; a sender that comes late sends all that are due at once, so a
 * pause of the sender loses nothing. A number whose sendmmsg(2) fails is not sent again: the host could not send it, it
 * is lost. The receiver takes the kernel's time of arrival (SO_TIMESTAMPNS) and reads its sockets every 5 ms out of a
 * large buffer: its own scheduling changes neither what is lost nor when things arrived. All end by themselves after
 * LIMIT_S.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <netdb.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

_Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

int64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec * NS + time.tv_nsec;
}

void sleep_ns(int64_t ns)
{
	struct timespec time = { ns / NS, ns % NS };

	nanosleep(&time, NULL);
}

/* A meter that waits behind the thing it measures measures the scheduler. Best effort. */
void be_prompt(void)
{
	struct sched_param first = { .sched_priority = 10 };

	prctl(PR_SET_TIMERSLACK, 1UL);
	(void)sched_setscheduler(0, SCHED_FIFO, &first);
}

socklen_t parse_address(const char *text, int port, struct sockaddr_storage *address)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM }, *found;
	socklen_t length;

	if (getaddrinfo(text, NULL, &hints, &found)) {
		fprintf(stderr, "probe: %s is no address\n", text);
		exit(2);
	}
	memcpy(address, found->ai_addr, found->ai_addrlen);
	length = found->ai_addrlen;
	freeaddrinfo(found);
	if (address->ss_family == AF_INET)
		((struct sockaddr_in *)address)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)address)->sin6_port = htons(port);
	return length;
}

int bound_socket(const char *text, int port, int type)
{
	struct sockaddr_storage address;
	socklen_t length = parse_address(text, port, &address);
	int one = 1, fd = socket(address.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one))
		die("socket");
	if (bind(fd, (struct sockaddr *)&address, length))
		die(text);
	return fd;
}

int main(int count, char **word)
{
	struct sigaction on_stop = { .sa_handler = stop };
	const char *mode = count > 2 ? word[1] : "", *name = strrchr(word[0], '/');
	int code = 2;

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGTERM, &on_stop, NULL);
	if (!strncmp(name ? name + 1 : word[0], "qemu-", 5)) {
		alarm(LIMIT_S);
		while (!stopped)
			pause();
		return 0;
	}
	if (!strcmp(mode, "run"))
		return run_mode(word + 2);
	if (!strcmp(mode, "send"))
		code = send_mode(count - 2, word + 2);
	else if (!strcmp(mode, "receive"))
		code = receive_mode(count - 2, word + 2);
	else if (!strcmp(mode, "serve"))
		code = serve_mode(count - 2, word + 2);
	else if (!strcmp(mode, "connect"))
		code = connect_mode(count - 2, word + 2);
	if (code == 2)
		fprintf(stderr, "probe: see the head of probe.c for how it is used\n");
	return code;
}
