"""Fetches a file again and again in one session, without pause; argument: a JSON object. Whatever breaks
is told, and a new session begins. SIGTERM ends it behind the file that is under way.

Each line that it prints is a JSON object with the moment as "at", in seconds of the monotonic clock."""

import ftplib
import hashlib
import json
import signal
import ssl
import sys
import time

job = json.loads(sys.argv[1])
is_over = False
files, told, sessions = 0, 0, 0


def say(**what):
    what["at"] = time.monotonic()
    print(json.dumps(what), flush=True)


def log_in():
    if job["tls"]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        ftp = ftplib.FTP_TLS(context=context)
    else:
        ftp = ftplib.FTP()
    ftp.trust_server_pasv_ipv4_address = True
    ftp.connect(job["host"], job["port"], timeout=20)
    ftp.login(job["user"], job["password"])
    if job["tls"]:
        ftp.prot_p()
    return ftp


def end(*_):
    global is_over
    is_over = True


signal.signal(signal.SIGTERM, end)
ftp = None
due = time.monotonic()
while not is_over:
    start = time.monotonic()
    try:
        if ftp is None:
            ftp = log_in()
            sessions += 1
            say(started=sessions)
            start = time.monotonic()
        if job["rest"]:
            time.sleep(job["rest"])
            start = time.monotonic()
        if job["rate"]:
            due = max(due + 1 / job["rate"], start - 1)
            time.sleep(max(0, due - start))
            start = time.monotonic()
        digest = hashlib.md5()
        ftp.retrbinary("RETR " + job["path"], digest.update, job["block"])
        if digest.hexdigest() != job["md5"]:
            raise RuntimeError("wrong content")
    except Exception as error:
        say(failure=repr(error), took=time.monotonic() - start)
        if ftp is not None:
            ftp.close()
        ftp = None
        time.sleep(0.2)
        continue
    files += 1
    now = time.monotonic()
    if now - start > 0.1 or now - told > 0.1:
        told = now
        say(files=files, took=now - start)
try:
    ftp.quit()
except Exception as error:
    say(failure="QUIT: " + repr(error), took=0)
say(over=files)
