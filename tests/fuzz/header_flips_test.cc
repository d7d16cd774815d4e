// Random bytes of a real model's header are overwritten: each time the model opens, with a
// tokenizer and a chat template of its own, or there is a Status.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>

#include "absl/strings/numbers.h"
#include "common/model/gguf_file.h"
#include "gtest/gtest.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/open_gguf.h"

namespace kvec {
namespace {

// Of everything before the tensors' data.
size_t HeaderSize(const std::string& file) {
  const auto* begin = reinterpret_cast<const uint8_t*>(file.data());
  const auto parsed = GgufFile::Parse({begin, file.size()});
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  size_t size = file.size();
  if (!parsed.ok()) return size;
  for (const FileTensor& tensor : parsed->tensors()) {
    size = std::min<size_t>(size, tensor.data.data() - begin);
  }
  return size;
}

// KVEC_HEADER_FLIPS asks for more than the normal tests have time for.
int NumFlips() {
  int num_flips = 100;
  const char* asked = std::getenv("KVEC_HEADER_FLIPS");
  EXPECT_TRUE(asked == nullptr || absl::SimpleAtoi(asked, &num_flips)) << asked;
  return num_flips;
}

TEST(HeaderFlipsTest, ARealModelOpensOrGivesAStatus) {
  const char* path = std::getenv("KVEC_SMOLLM2_GGUF");
  if (path == nullptr) GTEST_SKIP() << "KVEC_SMOLLM2_GGUF is not set";
  std::ifstream input(path, std::ios::binary);
  const std::string original(std::istreambuf_iterator<char>(input), {});
  const size_t header_size = HeaderSize(original);
  // The weights are not needed, only their place: a hole in the file.
  MemoryFile file(original.substr(0, header_size));
  file.Resize(original.size());
  ASSERT_TRUE(OpenGguf(file.path()));

  std::mt19937_64 random(20261124);
  const int num_flips = NumFlips();
  int num_opened = 0;
  for (int i = 0; i < num_flips; ++i) {
    // Half of them hit the vocabulary, which is nearly all of the header; half what describes the
    // model and the tensors, before and behind it.
    const size_t edge = std::min<size_t>(header_size, 16 << 10);
    const size_t at_edge = random() % edge;
    const size_t position = i % 2 == 0          ? random() % header_size
                            : random() % 2 == 0 ? at_edge
                                                : header_size - 1 - at_edge;
    file.Overwrite(position, static_cast<char>(original[position] ^ (1 + random() % 255)));
    if (OpenGguf(file.path())) ++num_opened;
    file.Overwrite(position, original[position]);
  }
  std::cout << num_flips << " flips, " << num_opened << " models opened" << std::endl;
}

}  // namespace
}  // namespace kvec
