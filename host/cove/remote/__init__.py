"""Other computers with Linux, reached by SSH: the way there, and the engine that Cove has there."""
