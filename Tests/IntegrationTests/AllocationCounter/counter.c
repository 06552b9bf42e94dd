// Owns: how often each thread of a program allocates, and on behalf of which library. Preloaded: it takes the
// place of the C library's malloc, and counts into a file that a test reads while the program runs.
// Must not know: which program it is. It allocates nothing itself.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

enum { SWIFT, RDKAFKA, LIBPQ, OTHER, OWNERS, THREADS = 64, RANGES = 64 };

/// The file is an array of these. AllocationTests.swift reads them as six words each.
struct thread {
  uint64_t identifier;
  uint64_t count[OWNERS];
  uint64_t reserved;
};

static struct range {
  uintptr_t start;
  uintptr_t end;
  int owner;
} ranges[RANGES];
static int range_count;
static struct thread *table;
static int taken;
static __thread struct thread *mine;

/// The program itself has an empty name here, and is Swift.
static int owner_of(const char *path) {
  const char *slash = strrchr(path, '/');
  const char *name = slash == NULL ? path : slash + 1;
  if (name[0] == 0 || strncmp(name, "libswift", 8) == 0) return SWIFT;
  if (strncmp(name, "librdkafka", 10) == 0) return RDKAFKA;
  return strncmp(name, "libpq", 5) == 0 ? LIBPQ : OTHER;
}

static int note(struct dl_phdr_info *object, size_t size, void *context) {
  (void)size;
  (void)context;
  int owner = owner_of(object->dlpi_name);
  for (int index = 0; index < object->dlpi_phnum && owner != OTHER; index++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[index];
    if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X) || range_count == RANGES) continue;
    uintptr_t start = object->dlpi_addr + segment->p_vaddr;
    ranges[range_count++] = (struct range){start, start + segment->p_memsz, owner};
  }
  return 0;
}

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("ALLOCATION_COUNTER_FILE");
  if (path == NULL) return;
  int descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  size_t size = THREADS * sizeof(struct thread);
  if (descriptor < 0 || ftruncate(descriptor, (off_t)size) != 0) return;
  dl_iterate_phdr(note, NULL);
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  close(descriptor);
  if (memory != MAP_FAILED) table = memory;
}

static inline void count(void *caller) {
  if (table == NULL) return;
  if (mine == NULL) {
    int index = __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
    mine = &table[index < THREADS ? index : THREADS - 1];
    mine->identifier = (uint64_t)gettid();
  }
  uintptr_t address = (uintptr_t)caller;
  int owner = OTHER;
  for (int index = 0; index < range_count; index++)
    if (address >= ranges[index].start && address < ranges[index].end) {
      owner = ranges[index].owner;
      break;
    }
  mine->count[owner]++;
}

void *malloc(size_t size) {
  count(__builtin_return_address(0));
  return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
  count(__builtin_return_address(0));
  return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
  count(__builtin_return_address(0));
  return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
  count(__builtin_return_address(0));
  *result = __libc_memalign(alignment, size);
  return *result == NULL ? ENOMEM : 0;
}
