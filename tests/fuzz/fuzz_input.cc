#include "tests/fuzz/fuzz_input.h"

#include <sys/mman.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace kvec {

std::vector<std::string> SplitParts(absl::string_view input, size_t count) {
  constexpr absl::string_view kSeparator = "\n=====\n";
  std::vector<std::string> parts;
  while (parts.size() + 1 < count) {
    const size_t end = input.find(kSeparator);
    parts.emplace_back(input.substr(0, end));
    input = end == absl::string_view::npos ? "" : input.substr(end + kSeparator.size());
  }
  parts.emplace_back(input);
  return parts;
}

MemoryFile::MemoryFile(absl::string_view content)
    : descriptor_(memfd_create("fuzz_input", MFD_CLOEXEC)),
      path_(absl::StrCat("/proc/self/fd/", descriptor_)) {
  PCHECK(descriptor_ >= 0);
  PCHECK(write(descriptor_, content.data(), content.size()) ==
         static_cast<ssize_t>(content.size()));
}

void MemoryFile::Resize(size_t size) {
  PCHECK(ftruncate(descriptor_, static_cast<off_t>(size)) == 0);
}

void MemoryFile::Overwrite(size_t position, char byte) {
  PCHECK(pwrite(descriptor_, &byte, 1, static_cast<off_t>(position)) == 1);
}

MemoryFile::~MemoryFile() { close(descriptor_); }

}  // namespace kvec
