// The JSON files of a Hugging Face folder: config.json, tokenizer_config.json,
// generation_config.json and model.safetensors.index.json, separated as SplitParts says. The
// weights and tokenizer.json have targets of their own and are those of a tiny llama here.
#include <string>
#include <vector>

#include "common/model/model_files.h"
#include "tests/common/model/temp_folder.h"
#include "tests/common/model/tiny_hf.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

const kvec::TempFolder& Folder() {
  static const auto* const kFolder = [] {
    auto* folder = new kvec::TempFolder;
    kvec::TinyHf("llama").Write(*folder);
    return folder;
  }();
  return *kFolder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr const char* kFiles[] = {"config.json", "tokenizer_config.json",
                                    "generation_config.json", "model.safetensors.index.json"};
  const std::vector<std::string> parts =
      kvec::SplitParts(kvec::AsText(data, size), std::size(kFiles));
  for (size_t i = 0; i < std::size(kFiles); ++i) {
    if (parts[i].empty()) {
      Folder().Remove(kFiles[i]);
    } else {
      Folder().Write(kFiles[i], parts[i]);
    }
  }
  kvec::ModelFiles::Open(Folder().path()).IgnoreError();
  return 0;
}
