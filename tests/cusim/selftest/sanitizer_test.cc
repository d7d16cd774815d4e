// What sanitizers find in the planted bugs when the simulator tells them about threads and streams.

#include <array>
#include <cstdio>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::cusim {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Standard output and error of a planted_bugs program.
std::string OutputOf(const std::string& program, const std::string& name) {
  const std::string command = "TSAN_OPTIONS=report_bugs=1 " + program + " " + name + " 2>&1";
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "cannot run " + command;
  std::string output;
  std::array<char, 4096> buffer;
  while (const size_t size = fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), size);
  }
  pclose(pipe);
  return output;
}

const std::string kWithAddressSanitizer = KVEC_PLANTED_BUGS_ASAN;
const std::string kWithThreadSanitizer = KVEC_PLANTED_BUGS_TSAN;

TEST(SanitizerTest, CorrectProgramsPass) {
  for (const std::string& program : {kWithAddressSanitizer, kWithThreadSanitizer}) {
    for (const char* name :
         {"Reverse", "Shuffle", "CopyAsync", "AddAtomically", "TwoStreamsWithEvent"}) {
      const std::string output = OutputOf(program, name);
      EXPECT_THAT(output, HasSubstr(std::string(name) + ": error 0"));
      EXPECT_THAT(output, Not(HasSubstr("Sanitizer")));
    }
  }
}

TEST(SanitizerTest, ThreadSanitizerFindsWhatNothingOrders) {
  for (const char* name :
       {"MissingBarrier", "MissingWarpSync", "MissingEvent", "RaceBetweenBlocks"}) {
    EXPECT_THAT(OutputOf(kWithThreadSanitizer, name),
                HasSubstr("WARNING: ThreadSanitizer: data race"))
        << name;
  }
}

TEST(SanitizerTest, AddressSanitizerFindsAccessesOutOfBounds) {
  for (const char* name : {"SharedOverrun", "DeviceOverrun", "DeviceUnderrun"}) {
    EXPECT_THAT(OutputOf(kWithAddressSanitizer, name), HasSubstr("ERROR: AddressSanitizer"))
        << name;
  }
}

}  // namespace
}  // namespace kvec::cusim
