#include "coordinator/server/vllm/zip_archive.h"

#include <random>

#include "gtest/gtest.h"
#include "tests/coordinator/server/vllm/archive_reader.h"

namespace kvec::coordinator::server::vllm {
namespace {

TEST(ZipArchiveTest, HoldsTheFilesWithTheirChecksums) {
  std::mt19937 generator(3);
  std::vector<ArchiveFile> files = {{"empty", ""}, {"digits", "123456789"}};
  std::string random(70'001, '\0');
  for (char& byte : random) byte = static_cast<char>(generator());
  files.push_back({"random.bin", random});
  const auto archive = ZipArchive(files);
  ASSERT_TRUE(archive.ok());
  const auto read = ReadArchive(*archive);
  ASSERT_EQ(read.size(), 3);
  for (const ArchiveFile& file : files) EXPECT_EQ(read.at(file.name), file.content);
}

TEST(ZipArchiveTest, ChecksumsAreThoseOfTheStandard) {
  const auto archive = ZipArchive({{"f", "123456789"}});
  EXPECT_EQ(Read(*archive, 14, 4), 0xCBF43926);  // the check value of CRC-32
}

TEST(ZipArchiveTest, EqualFilesGiveEqualBytes) {
  EXPECT_EQ(*ZipArchive({{"a", "1"}, {"b", "2"}}), *ZipArchive({{"a", "1"}, {"b", "2"}}));
}

}  // namespace
}  // namespace kvec::coordinator::server::vllm
