// Owns: the promises of reading a file that decides something: nothing waits, nobody else wrote it.
import Foundation
import Glibc
import Testing

@testable import RelayCore

@Suite struct SmallFileTests {
  private final class Folder {
    let path: String
    init() throws {
      path = FileManager.default.temporaryDirectory.path + "/outboxd-test-\(UUID().uuidString)"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    func file(_ name: String, _ text: String, mode: mode_t) throws -> String {
      let file = "\(path)/\(name)"
      try Data(text.utf8).write(to: URL(fileURLWithPath: file))
      chmod(file, mode)
      return file
    }
  }

  private func refusal(_ path: String, _ rule: SmallFile.Rule = .trusted) -> SmallFile.Refusal? {
    do throws(SmallFile.Refusal) {
      _ = try SmallFile.read(path, rule, limit: 100)
      return nil
    } catch {
      return error
    }
  }

  @Test func `a file that group or others may write is refused, with the command that corrects it`() throws {
    let folder = try Folder()
    for mode: mode_t in [0o600, 0o400, 0o640, 0o644, 0o755] {
      #expect(refusal(try folder.file("good", "a", mode: mode)) == nil, "\(mode)")
    }
    for mode: mode_t in [0o620, 0o602, 0o666, 0o660] {
      let path = try folder.file("it's", "a", mode: mode)
      let error = try #require(refusal(path), "\(mode)")
      #expect(error.reason.contains("can be written by") && error.reason.contains("mode 0"))
      #expect(error.remedy == "chmod go-w '\(folder.path)/it'\\''s'")
      #expect(refusal(path, .anyOwner) == nil)
    }
  }

  @Test func `a file of root or of the own user is trusted, and nobody else's`() {
    #expect(SmallFile.Status(owner: 0, mode: 0o644).distrust("f") == nil)
    #expect(SmallFile.Status(owner: geteuid(), mode: 0o600).distrust("f") == nil)
    let stranger: UInt32 = geteuid() == 65_534 ? 65_533 : 65_534
    let error = SmallFile.Status(owner: stranger, mode: 0o600).distrust("f")
    #expect(error?.reason.contains("belongs to") == true)
    #expect(error?.remedy == "chown \(SmallFile.userName(geteuid())) f")
  }

  @Test func `a link is followed to a file that is examined, as Kubernetes mounts a secret`() throws {
    let folder = try Folder()
    mkdir(folder.path + "/..data", 0o777)
    _ = try folder.file("..data/password", "secret\r\n", mode: 0o440)
    symlink("..data/password", folder.path + "/password")
    #expect(try SmallFile.secret(folder.path + "/password", limit: 10) == "secret")
    chmod(folder.path + "/..data/password", 0o666)
    #expect(refusal(folder.path + "/password") != nil)
  }

  @Test func `what is no regular file is refused at once, and nothing waits for it`() throws {
    let folder = try Folder()
    mkfifo(folder.path + "/fifo", 0o600)
    #expect(refusal(folder.path + "/fifo")?.reason == "is a named pipe, not a regular file")
    #expect(refusal(folder.path)?.reason == "is a directory, not a regular file")
    #expect(refusal("/dev/zero")?.reason == "is a device, not a regular file")
    #expect(refusal(folder.path + "/none")?.reason == "cannot be read: No such file or directory")
    // Without a writer a pipe is empty, where one is allowed.
    #expect(try SmallFile.read(folder.path + "/fifo", .trustedOrPipe, limit: 10) == [])
  }

  @Test func `a pipe that is being written is read to its end, where one is allowed`() throws {
    let pipe = Pipe()
    pipe.fileHandleForWriting.write(Data("from a pipe".utf8))
    pipe.fileHandleForWriting.closeFile()
    let path = "/dev/fd/\(pipe.fileHandleForReading.fileDescriptor)"
    #expect(try SmallFile.read(path, .trustedOrPipe, limit: 100) == Array("from a pipe".utf8))
  }
}
