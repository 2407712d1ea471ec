"""An FTP server; argv[1] is its description as JSON."""

import json
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

job = json.loads(sys.argv[1])

handler = FTPHandler
if job["certificate"]:
    from pyftpdlib.handlers import TLS_FTPHandler

    class Implicit(TLS_FTPHandler):
        """TLS from the first byte on: the greeting waits for it."""

        def handle(self):
            self.secure_connection(self.ssl_context)

        def handle_ssl_established(self):
            super().handle()

    handler = Implicit if job["implicit"] else TLS_FTPHandler
    handler.certfile = job["certificate"]
handler.authorizer = DummyAuthorizer()
handler.authorizer.add_user(job["user"], job["password"], job["root"], perm="elradfmw")
handler.masquerade_address = job["announce"]
if job["ports"]:
    first, last = job["ports"]
    handler.passive_ports = range(first, last + 1)

FTPServer(("::", job["port"]), handler).serve_forever()
