// Owns: what the configuration asks about a conninfo before anything connects.
// Must not know: the configuration file.
import RelayCore

extension PostgresSettings {
  /// What is wrong with the text, or nil. Quotes no secret.
  /// - Parameter name: where the text comes from.
  public static func conninfoProblem(
    _ conninfo: String, name: String = "postgres.conninfo"
  ) -> (message: String, suggestion: String?)? {
    do throws(RelayError) {
      _ = try ConnectionOption.parse(conninfo, name: name)
      return nil
    } catch {
      return (error.message, error.remedy == ConninfoSecrets.advice ? error.remedy : nil)
    }
  }

  /// Whether the text itself holds the password. False where libpq cannot read it.
  public static func conninfoHasPassword(_ conninfo: String) -> Bool {
    holds(conninfo) { $0.keyword == "password" && $0.value != nil }
  }

  /// Whether the text itself holds what libpq prints nowhere: a password, a passphrase, a client's secret. False where
  /// libpq cannot read it.
  public static func conninfoHasSecret(_ conninfo: String) -> Bool {
    holds(conninfo) { $0.isSecret && $0.value?.isEmpty == false }
  }

  private static func holds(_ conninfo: String, _ what: (ConnectionOption) -> Bool) -> Bool {
    do throws(RelayError) {
      return try ConnectionOption.parse(conninfo).contains(where: what)
    } catch {
      return false
    }
  }

  /// The files of a conninfo, from the text or the environment, that hold keys, certificates or passwords: keyword and
  /// path. Without those that libpq finds in the home folder by itself.
  public static func conninfoFiles(_ conninfo: String) -> [(keyword: String, path: String)] {
    let options = try? ConnectionOption.parse(conninfo)
    return ["sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile", "servicefile"].compactMap { keyword in
      guard let path = options?.first(where: { $0.keyword == keyword })?.effectiveValue, !path.isEmpty,
        path != "system"
      else { return nil }
      return (keyword, path)
    }
  }
}
