"""One job of one FTP session; argv[1] is its description as JSON."""

import ftplib
import json
import ssl
import sys

job = json.loads(sys.argv[1])


def passive_address(ftp):
    """The library takes EPSV for IPv6 only, and the lab wants to choose."""
    if job["mode"] == "EPSV":
        return ftplib.parse229(ftp.sendcmd("EPSV"), ftp.sock.getpeername())
    host, port = ftplib.parse227(ftp.sendcmd("PASV"))
    return (host if ftp.trust_server_pasv_ipv4_address else ftp.host), port


class Plain(ftplib.FTP):
    # From 3.9 on the library ignores the address in a 227 unless told otherwise.
    trust_server_pasv_ipv4_address = True

    def makepasv(self):
        return passive_address(self)

    def sendport(self, host, port):
        if job["mode"] == "EPRT":
            return self.sendeprt(host, port)
        return super().sendport(host, port)


class Tls(Plain, ftplib.FTP_TLS):
    def ntransfercmd(self, cmd, rest=None):
        return ftplib.FTP_TLS.ntransfercmd(self, cmd, rest)


if job["tls"]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if job["tls_version"]:
        version = ssl.TLSVersion[job["tls_version"]]
        context.minimum_version = context.maximum_version = version
    ftp = Tls(context=context)
else:
    ftp = Plain()

ftp.set_debuglevel(1)
ftp.connect(job["host"], job["port"], timeout=job["timeout"])
ftp.login(job["user"], job["password"])
if job["tls"]:
    ftp.prot_p()
ftp.set_pasv(job["mode"] in ("PASV", "EPSV"))
if job["verb"] == "store":
    with open(job["file"], "rb") as source:
        ftp.storbinary("STOR " + job["path"], source)
else:
    command = {"fetch": "RETR ", "list": "LIST "}[job["verb"]] + job["path"]
    with open(job["output"], "wb") as target:
        ftp.retrbinary(command, target.write)
ftp.quit()
