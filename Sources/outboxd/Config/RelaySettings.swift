// Owns: what an operator says of the relay itself.
// Must not know: the loop.

struct RelaySettings: Equatable, Sendable {
  /// In milliseconds: how long a stop waits for Kafka's acknowledgements.
  var drainTimeout = 25_000
  /// After an unclean stop, what Kafka has already is not sent again.
  var skipDelivered = true
  var checkOrigin = true
  var isAdaptive = true
}
