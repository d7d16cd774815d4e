#ifndef KVEC_TESTS_COMMON_MODEL_TEMP_FOLDER_H_
#define KVEC_TESTS_COMMON_MODEL_TEMP_FOLDER_H_

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace kvec {

// A folder of its own for a test's files, removed with them at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = absl::StrCat(testing::TempDir(), "/kvec_model_XXXXXX");
    if (mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "cannot make " << pattern;
    path_ = pattern;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

  // Returns the file's path.
  std::string Write(absl::string_view name, absl::string_view content) const {
    std::ofstream(File(name), std::ios::binary).write(content.data(), content.size());
    return File(name);
  }
  void Remove(absl::string_view name) const { std::filesystem::remove(File(name)); }

 private:
  std::string path_;
};

}  // namespace kvec

#endif  // KVEC_TESTS_COMMON_MODEL_TEMP_FOLDER_H_
