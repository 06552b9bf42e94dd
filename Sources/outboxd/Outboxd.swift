@main
struct Outboxd {
  static func main() {}
}
