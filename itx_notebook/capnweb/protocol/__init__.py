"""Cap'n Web's protocol, without a loop or a socket: values, references, and the machine that keeps them."""
