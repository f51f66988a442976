"""How much is read before giving up; each limit with what legitimate traffic needs and what it denies an attacker.

Sources: RFC 9846 sections 4 and 5, RFC 5246 section 6.2.
"""

# A record's payload. TLS 1.3 ciphertext ends at 2^14 + 256, TLS 1.2 ciphertext at 2^14 + 2048; real records
# come up to it. More would let a peer make us hold memory on the word of one 16-bit field.
MAX_RECORD_PAYLOAD_BYTES = (1 << 14) + 2048

# A ClientHello. The sum of its vectors' own limits: 2 + 32 + 33 + 65,536 + 256 + 65,537, and the 4-byte header.
# Post-quantum hellos have 1.4 to 6 KB; a bigger one cannot be written by the rules, so nothing legitimate is cut.
MAX_CLIENT_HELLO_BYTES = 4 + 2 + 32 + 33 + 65_536 + 256 + 65_537

# A ServerHello or HelloRetryRequest: fixed fields and one block of extensions. The largest known key share,
# SecP384r1MLKEM1024's, has 1,665 bytes; a cookie may have 65,535.
MAX_SERVER_HELLO_BYTES = 4 + 2 + 32 + 33 + 2 + 1 + 65_537

# EncryptedExtensions: one block of extensions.
MAX_ENCRYPTED_EXTENSIONS_BYTES = 4 + 65_537

# A TLS 1.2 ServerKeyExchange: three DH numbers of at most 16,384 bits with room, a hint and a signature.
MAX_SERVER_KEY_EXCHANGE_BYTES = 32_768

# Handshake records that carry nothing, in a row. TLS 1.3 forbids them, OpenSSL puts up with 32 before TLS 1.3;
# without an end to it a peer could keep a tracker busy for ever at five bytes a turn.
MAX_EMPTY_RECORDS = 32

# Bytes of one direction that are kept until the other side's first hello arrives (a capture can deliver the
# answer first). A server's first flight with ML-DSA certificates has about 20 KB.
MAX_EARLY_BYTES = 65_536

# A cookie that a prober sends back in its second hello, which goes into one record of 16,384 bytes. Real ones hold a
# hash and a signature, some 100 bytes; one that leaves no room would break the hello that carries it.
MAX_COOKIE_BYTES = 8_192
