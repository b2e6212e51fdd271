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

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **word)
{
	const char *mode = count > 2 ? word[1] : "", *name = strrchr(word[0], '/');
	int code = 2;

	signal(SIGPIPE, SIG_IGN);
	be_stoppable();
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
		fprintf(stderr, "probe: see the head of main.c for how it is used\n");
	return code;
}
