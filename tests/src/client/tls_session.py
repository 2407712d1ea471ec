"""A control connection by TLS; argv[1] is its description as JSON. Each line that is read is a
command: its reply is written as a line."""

import ftplib
import json
import ssl
import sys

job = json.loads(sys.argv[1])

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE

ftp = ftplib.FTP_TLS(context=context)
ftp.connect(job["host"], job["port"], timeout=10)
ftp.login(job["user"], job["password"])
ftp.prot_p()
print("ready", flush=True)
for line in sys.stdin:
    print(ftp.sendcmd(line.strip()).replace("\n", " "), flush=True)
