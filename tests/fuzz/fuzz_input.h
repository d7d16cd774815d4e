#ifndef KVEC_TESTS_FUZZ_FUZZ_INPUT_H_
#define KVEC_TESTS_FUZZ_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kvec {

inline absl::string_view AsText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// A text input of several parts, separated by lines of "=====", which no part needs itself. Always
// `count` parts: those missing are empty, and the last one takes all that is left.
std::vector<std::string> SplitParts(absl::string_view input, size_t count);

// A file in memory with a path, for code that opens files.
class MemoryFile {
 public:
  explicit MemoryFile(absl::string_view content);
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile();

  const std::string& path() const { return path_; }

  // Grows by zero bytes that take no memory, or shrinks.
  void Resize(size_t size);
  void Overwrite(size_t position, char byte);

 private:
  int descriptor_;
  std::string path_;
};

}  // namespace kvec

#endif  // KVEC_TESTS_FUZZ_FUZZ_INPUT_H_
