// Owns: the names of the slots that replay uses beside the main one. Pure.
// Must not know: what is done with them.
import Glibc

public enum ReplaySlots {
  /// Postgres' limit for a name, in bytes.
  private static let limit = 63

  /// The slot that keeps WAL to replay from: `<slot>_anchor`.
  public static func anchor(of slot: String) -> String { shortened(slot, limit - 7) + "_anchor" }

  /// For one replay: `<slot>_replay_<process>_<chance>`. Process ids repeat across containers.
  static func temporary(of slot: String) -> String {
    temporaryPrefix(of: slot) + "\(getpid())_" + String(UInt32.random(in: 0...0xFF_FFFF), radix: 16)
  }

  public static func temporaryPrefix(of slot: String) -> String { shortened(slot, 40) + "_replay_" }

  /// Names that are cut off have a sum of the whole name, so that two of them stay two.
  private static func shortened(_ name: String, _ length: Int) -> String {
    guard name.utf8.count > length else { return name }
    var sum: UInt32 = 2_166_136_261
    for byte in name.utf8 { sum = (sum ^ UInt32(byte)) &* 16_777_619 }
    return String(decoding: name.utf8.prefix(length - 9), as: UTF8.self) + "_" + String(sum, radix: 16)
  }
}
