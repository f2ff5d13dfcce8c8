"""What speed is gained, and that accuracy does not pay for it: our training path beside the usual loop."""
