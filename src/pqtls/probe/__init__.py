"""Send one crafted ClientHello, tell what came back: plan, run and interpret are three things."""
