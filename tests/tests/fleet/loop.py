"""Fetches small files in one session, with one rest in seconds if any; argument: a JSON object. Prints
one as well."""

import ftplib
import hashlib
import json
import sys
import time

job = json.loads(sys.argv[1])
ftp = ftplib.FTP()
ftp.trust_server_pasv_ipv4_address = True
ftp.connect(job["host"], job["port"], timeout=15)
ftp.login(job["user"], job["password"])
files, failures, longest = 0, [], 0.0
print("started", flush=True)
end = time.monotonic() + job["seconds"]
rest_at = time.monotonic() + 1.5
while time.monotonic() < end:
    if job["rest"] and time.monotonic() > rest_at:
        time.sleep(job["rest"])
        job["rest"] = 0
    start = time.monotonic()
    digest = hashlib.md5()
    try:
        ftp.retrbinary("RETR " + job["path"], digest.update)
        if digest.hexdigest() != job["md5"]:
            failures.append("wrong content")
    except Exception as error:
        failures.append(repr(error))
        break
    files += 1
    longest = max(longest, time.monotonic() - start)
try:
    ftp.quit()
except Exception as error:
    failures.append("QUIT: " + repr(error))
print(json.dumps({"files": files, "failures": failures, "longest": longest}))
