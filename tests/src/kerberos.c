/*
 * What no client of the lab does with tickets. Compiled and called by kerberos.rs.
 *
 *   handshake MECHANISM WAY SERVICE [BINDINGS]
 *                                     a GSSAPI client (krb5 | spnego; mutual | one-way) on its standard streams, whose
 *                                     tokens are made for the channel of that application data
 *   large PRINCIPAL BYTES             a service's ticket with that much authorization data, put into the cache
 *   ap-req PRINCIPAL                  an AP-REQ with the ticket in the cache, whatever its times are
 *
 * Bytes are lines of hexadecimal digits. Errors are told in words, with exit code 1.
 */
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What one element of a ticket's authorization data holds, at most. */
#define ELEMENT 8192
/* A type of authorization data that nobody knows. */
#define NOBODYS_TYPE 1077
/* RFC 4121, section 4.1.1: the checksum's type by which GSSAPI passes its flags. */
#define GSS_CHECKSUM 0x8003

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

static void print_hex(const char *what, const void *bytes, size_t length)
{
	printf("%s ", what);
	for (size_t i = 0; i < length; i++)
		printf("%02x", ((const unsigned char *)bytes)[i]);
	printf("\n");
	fflush(stdout);
}

static gss_buffer_desc read_hex(const char *digits)
{
	gss_buffer_desc bytes = { 0, calloc(1, strlen(digits) / 2 + 1) };
	unsigned int byte;

	if (bytes.value == NULL)
		fail("calloc", "no memory");
	while (sscanf(digits + 2 * bytes.length, "%2x", &byte) == 1)
		((unsigned char *)bytes.value)[bytes.length++] = byte;
	return bytes;
}

/* --- handshake --- */

static void print_gss_error(OM_uint32 major, OM_uint32 minor)
{
	OM_uint32 ignored, more = 0;
	gss_buffer_desc general, special;

	gss_display_status(&ignored, major, GSS_C_GSS_CODE, GSS_C_NO_OID, &more, &general);
	more = 0;
	gss_display_status(&ignored, minor, GSS_C_MECH_CODE, GSS_C_NO_OID, &more, &special);
	printf("error %.*s (%.*s)\n", (int)general.length, (char *)general.value, (int)special.length,
	       (char *)special.value);
	fflush(stdout);
}

/* Answers each line with one: `answer HEX` with `token HEX`, `complete` or `error WHY`; `mic HEX` with `mic HEX`. */
static void handshake(const char *mechanism, const char *way, const char *service, const char *bindings)
{
	gss_OID_desc spnego = { 6, "\x2b\x06\x01\x05\x05\x02" };
	gss_OID mech = strcmp(mechanism, "krb5") == 0 ? (gss_OID)gss_mech_krb5 : &spnego;
	OM_uint32 wanted = strcmp(way, "mutual") == 0 ? GSS_C_MUTUAL_FLAG : 0;
	gss_buffer_desc name = { strlen(service), (void *)service }, answer = GSS_C_EMPTY_BUFFER, out;
	struct gss_channel_bindings_struct channel = { 0 };
	gss_ctx_id_t context = GSS_C_NO_CONTEXT;
	OM_uint32 major, minor, got = 0, ignored;
	gss_name_t target;
	char *line = NULL;
	size_t room = 0;

	if (bindings != NULL)
		channel.application_data = read_hex(bindings);
	major = gss_import_name(&minor, &name, GSS_C_NT_HOSTBASED_SERVICE, &target);
	if (major != GSS_S_COMPLETE)
		fail(service, "gss_import_name");
	do {
		if (line != NULL && strncmp(line, "mic ", 4) == 0) {
			gss_buffer_desc message = read_hex(line + 4);

			major = gss_get_mic(&minor, context, GSS_C_QOP_DEFAULT, &message, &out);
			if (GSS_ERROR(major))
				print_gss_error(major, minor);
			else
				print_hex("mic", out.value, out.length);
			continue;
		}
		if (line != NULL && strncmp(line, "answer ", 7) == 0)
			answer = read_hex(line + 7);
		major = gss_init_sec_context(&minor, GSS_C_NO_CREDENTIAL, &context, target, mech, wanted, 0,
					     bindings == NULL ? GSS_C_NO_CHANNEL_BINDINGS : &channel, &answer, NULL, &out, &got, NULL);
		if (GSS_ERROR(major))
			print_gss_error(major, minor);
		else if (out.length > 0)
			print_hex("token", out.value, out.length);
		else if (major == GSS_S_COMPLETE && (got & wanted) == wanted)
			printf("complete\n");
		else
			printf("error nothing to send, and not complete\n");
		fflush(stdout);
		gss_release_buffer(&ignored, &out);
	} while (getline(&line, &room, stdin) > 0);
}

/* --- tickets --- */

static void check(krb5_context context, const char *what, krb5_error_code code)
{
	if (code != 0)
		fail(what, krb5_get_error_message(context, code));
}

/* The cache's owner as the client, and a service. */
static void name_both(krb5_context context, krb5_ccache cache, const char *service, krb5_creds *names)
{
	memset(names, 0, sizeof(*names));
	check(context, "the cache's owner", krb5_cc_get_principal(context, cache, &names->client));
	check(context, service, krb5_parse_name(context, service, &names->server));
}

/* KDCs copy what a client asks for into the ticket (RFC 4120, section 5.4.1, enc-authorization-data). */
static void large(krb5_context context, krb5_ccache cache, const char *service, size_t bytes)
{
	size_t count = (bytes + ELEMENT - 1) / ELEMENT;
	krb5_authdata **all = calloc(count + 1, sizeof(*all));
	krb5_creds names, *got;

	if (all == NULL)
		fail("calloc", "no memory");
	for (size_t i = 0; i < count; i++) {
		size_t length = bytes - i * ELEMENT < ELEMENT ? bytes - i * ELEMENT : ELEMENT;
		krb5_authdata element = { .ad_type = NOBODYS_TYPE, .length = length, .contents = calloc(1, length) };
		krb5_authdata *inside[2] = { &element, NULL }, **outside;

		if (element.contents == NULL)
			fail("calloc", "no memory");
		check(context, "krb5_encode_authdata_container",
		      krb5_encode_authdata_container(context, KRB5_AUTHDATA_IF_RELEVANT, inside, &outside));
		all[i] = outside[0];
	}
	name_both(context, cache, service, &names);
	names.authdata = all;
	check(context, "krb5_get_credentials",
	      krb5_get_credentials(context, KRB5_GC_NO_STORE, cache, &names, &got));
	/* As it is in the ticket and not as it was asked for: a client that asks for nothing special must find it. */
	got->authdata = NULL;
	check(context, "krb5_cc_store_cred", krb5_cc_store_cred(context, cache, got));
}

static void ap_req(krb5_context context, krb5_ccache cache, const char *service)
{
	/* The length of the channel bindings, those (none), and the flags (none). */
	char checksum[24] = { 16 };
	krb5_data body = { .length = sizeof(checksum), .data = checksum }, request;
	krb5_auth_context auth = NULL;
	krb5_creds names, ticket;

	name_both(context, cache, service, &names);
	check(context, "krb5_cc_retrieve_cred", krb5_cc_retrieve_cred(context, cache, 0, &names, &ticket));
	/* Whatever the library has learnt of the KDC's clock, this client's is right. */
	check(context, "krb5_set_real_time", krb5_set_real_time(context, time(NULL), -1));
	/* The library would make no request by a ticket that it takes for invalid. The ticket itself says what it said. */
	ticket.times.starttime = 0;
	ticket.times.authtime = (krb5_timestamp)time(NULL);
	ticket.times.endtime = (krb5_timestamp)time(NULL) + 3600;
	check(context, "krb5_auth_con_init", krb5_auth_con_init(context, &auth));
	check(context, "krb5_auth_con_set_req_cksumtype",
	      krb5_auth_con_set_req_cksumtype(context, auth, GSS_CHECKSUM));
	check(context, "krb5_mk_req_extended",
	      krb5_mk_req_extended(context, &auth, 0, &body, &ticket, &request));
	print_hex("ap-req", request.data, request.length);
}

int main(int count, char **words)
{
	krb5_context context;
	krb5_ccache cache;

	if ((count == 5 || count == 6) && strcmp(words[1], "handshake") == 0) {
		handshake(words[2], words[3], words[4], words[5]);
		return 0;
	}
	if (krb5_init_context(&context) != 0)
		fail("krb5_init_context", "the configuration cannot be read");
	check(context, "the cache", krb5_cc_default(context, &cache));
	if (count == 4 && strcmp(words[1], "large") == 0)
		large(context, cache, words[2], strtoul(words[3], NULL, 10));
	else if (count == 3 && strcmp(words[1], "ap-req") == 0)
		ap_req(context, cache, words[2]);
	else
		fail(words[0], "wrong arguments");
	return 0;
}
