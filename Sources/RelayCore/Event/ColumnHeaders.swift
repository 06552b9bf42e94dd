// Owns: the members of one row's headers column: the last of each name, and 64 at most.
// Must not know: what becomes of them.
import Glibc

/// The members of one row's headers column, in the order of their first appearance.
struct ColumnHeaders: ~Copyable {
  /// The most that are kept.
  static let limit = 64

  struct Member: BitwiseCopyable {
    var name: LentBytes
    /// Empty: it is not there.
    var value: LentBytes
    var kind: JSONScanner.Kind
  }

  private let members: UnsafeMutablePointer<Member>
  private(set) var count = 0

  init() { members = .allocate(capacity: Self.limit) }

  deinit { members.deallocate() }

  mutating func reset() { count = 0 }

  subscript(index: Int) -> Member {
    // SAFETY: the callers stay below `count`.
    members[index]
  }

  /// The last of several members of a name is the one that counts, as in JavaScript and in jsonb. A name is compared with
  /// those that are kept, of which there are few. False: there is no room.
  mutating func set(_ member: Member) -> Bool {
    for index in 0..<count where members[index].name.count == member.name.count {
      // SAFETY: the first `count` places are initialised, and both names have that many bytes; neither is empty.
      guard let kept = members[index].name.baseAddress, let name = member.name.baseAddress,
        memcmp(kept, name, member.name.count) == 0
      else { continue }
      members[index].value = member.value
      members[index].kind = member.kind
      return true
    }
    if member.value.isEmpty { return true }
    guard count < Self.limit else { return false }
    // SAFETY: there is room for `limit` members.
    (members + count).initialize(to: member)
    count += 1
    return true
  }
}
