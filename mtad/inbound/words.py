"""What we say in a dialogue, each reply named once. What is octets is ready for the wire; a Reply is logged too."""

from mtad.mail.reply import LOCAL_ERROR, Reply

OK = Reply(250, "2.0.0", "OK").wire()
SENDER_OK = Reply(250, "2.1.0", "Sender OK").wire()
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK").wire()
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS").wire()
AUTHENTICATED = Reply(235, "2.7.0", "Authentication succeeded").wire()
BYE = Reply(221, "2.0.0", "Bye").wire()
HELP = Reply(214, "2.0.0", "See RFC 5321").wire()
VRFY = Reply(252, "2.1.5", "Cannot VRFY, but will take mail for it and try").wire()

FAILED = LOCAL_ERROR.wire()
UNKNOWN = Reply(500, "5.5.2", "Unknown command").wire()
UNSUPPORTED = Reply(502, "5.5.1", "Command not implemented").wire()
NO_CRLF = Reply(500, "5.5.2", "Lines end with CR LF").wire()
TOO_LONG = Reply(500, "5.5.2", "Line too long").wire()
CONTROLS = Reply(501, "5.5.2", "Control characters or invalid UTF-8 in a command").wire()
NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument").wire()
NEEDS_NAME = Reply(501, "5.5.4", "Say your name: EHLO name").wire()
MAIL_SYNTAX = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]").wire()
RCPT_SYNTAX = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]").wire()
EHLO_FIRST = Reply(503, "5.5.1", "Send EHLO first").wire()
MAIL_FIRST = Reply(503, "5.5.1", "Send MAIL first").wire()
MAIL_BEGUN = Reply(503, "5.5.1", "The mail itself has begun").wire()
NEEDS_BDAT = Reply(503, "5.5.1", "BINARYMIME needs BDAT").wire()
SECOND_MAIL = Reply(503, "5.5.1", "Sender already given").wire()
NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients").wire()
TLS_FIRST = Reply(530, "5.7.0", "Must issue STARTTLS first").wire()
AUTH_FIRST = Reply(530, "5.7.0", "Authentication required").wire()
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for authentication").wire()
AUTH_TWICE = Reply(503, "5.5.1", "Already authenticated").wire()
AUTH_IN_MAIL = Reply(503, "5.5.1", "AUTH is not allowed inside a mail transaction").wire()
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication line too long").wire()
TLS_TWICE = Reply(503, "5.5.1", "TLS is already active").wire()

TOO_HASTY = Reply(503, "5.5.1", "Wait for the answer to EHLO").wire()
NOT_A_PROXY = Reply(550, "5.7.0", "You are no proxy of ours").wire()

TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients", stage="rcpt")
NEEDS_UTF8 = Reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8", stage="mail")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing", stage="command")
TOO_MUCH_JUNK = Reply(421, "4.7.0", "Too many commands without a mail, closing", stage="command")
TOO_EARLY = Reply(554, "5.5.1", "You spoke before the greeting", stage="connect")
PROXY_UNEXPECTED = Reply(550, "5.7.0", "You are no proxy of ours, closing", stage="command")
NO_PROXY_HEADER = Reply(421, "4.7.0", "No PROXY header", stage="connect")
CLOSED = Reply(421, "4.3.2", "Closed by the operator", stage="command")
BDAT_SYNTAX = Reply(521, "5.5.4", "Syntax: BDAT octets [LAST], closing", stage="command")
NOT_MAIL = Reply(502, "5.7.0", "This is a mail server, closing", stage="command")
ACCOUNT_CLOSED = Reply(421, "4.7.0", "Your account was closed, closing", stage="command")
AUTH_UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure", stage="auth")


def chunk_taken(octets: int) -> bytes:
    return f"250 2.0.0 {octets} octets received\r\n".encode()


def priority_changed(priority: int) -> bytes:
    """RFC 6710 4.1: the sender is told what became of its wish."""
    return Reply(250, "2.3.6", f"{priority} is the new priority of the message").wire()
