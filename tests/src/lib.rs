//! The lab: network namespaces, real FTP servers and real FTP clients.
