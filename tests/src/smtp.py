"""A mail server of the lab: Debian's aiosmtpd, with the faults that it is told to have.

What it is told stands in the file `behaviour` of its directory, a word or two, looked at with each mail; each mail that it takes
becomes a file there, with its envelope in the first two lines. What it did stands in `said`.
"""

import asyncio
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


def main():
    wanted = json.loads(sys.argv[1])
    directory = wanted["directory"]

    def say(text):
        with open(os.path.join(directory, "said"), "a") as said:
            said.write(text + "\n")

    def behaviour():
        try:
            with open(os.path.join(directory, "behaviour")) as told:
                return told.read().strip()
        except FileNotFoundError:
            return ""

    class Handler:
        number = 0

        async def handle_RCPT(self, server, session, envelope, address, options):
            told = behaviour()
            say(f"rcpt {address} tls={session.ssl is not None} auth={session.authenticated} {told}")
            if told == "defer":
                return "451 4.7.1 come back later"
            if told == "refuse":
                return "550 5.1.1 nobody here is called that"
            envelope.rcpt_tos.append(address)
            return "250 ok"

        async def handle_DATA(self, server, session, envelope):
            told = behaviour()
            if told == "hang":
                await asyncio.sleep(3600)
            if told == "close":
                server.transport.close()
                return "421 closed"
            self.number += 1
            name = os.path.join(directory, f"{os.getpid()}-{self.number:04}.eml")
            with open(name + ".new", "wb") as mail:
                head = f"{envelope.mail_from}\n{' '.join(envelope.rcpt_tos)}\n"
                mail.write(head.encode() + envelope.original_content)
            os.rename(name + ".new", name)
            if told == "lose":
                # Taken, and its answer is lost.
                server.transport.abort()
            if told == "repeat":
                return "554 5.6.0 no: " + envelope.original_content.decode().replace("\r\n", " ")[-400:]
            return "250 taken"

    def authenticate(server, session, envelope, mechanism, data):
        good = data.login.decode() == wanted["user"] and data.password.decode() == wanted["password"]
        say(f"auth {mechanism} {'good' if good else 'bad'} tls={session.ssl is not None}")
        return AuthResult(success=good, handled=False)

    context = None
    if wanted["certificate"]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(wanted["certificate"], wanted["key"])
    handler = Handler()

    def protocol(over_tls):
        return SMTP(
            handler,
            hostname="mail.example.test",
            tls_context=None if over_tls else context,
            require_starttls=bool(context) and not over_tls,
            authenticator=authenticate if wanted["user"] else None,
            auth_required=bool(wanted["user"]),
            auth_require_tls=not over_tls,
            loop=loop,
        )

    async def serve():
        await loop.create_server(lambda: protocol(False), wanted["address"], wanted["port"])
        if context:
            await loop.create_server(lambda: protocol(True), wanted["address"], wanted["tls_port"], ssl=context)
        say("listening")

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve())
    loop.run_forever()


main()
