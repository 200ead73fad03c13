"""HTTP as devices speak it: transports, downloads, and the check-in clients built on them."""
