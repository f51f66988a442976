"""Where handshakes come from: the recorder inside Python, the relay. All feed the one tracker in wire/."""
