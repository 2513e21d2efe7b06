# Filled in by `make installers`; goes into a tap's Formula/cove.rb.
class Cove < Formula
  desc "Container desktop: docker commands on a laptop, run in a small VM"
  homepage "@HOMEPAGE@"
  version "@VERSION@"
  license "@LICENCE@"

  on_arm do
    url "@ARM_URL@"
    sha256 "@ARM_SHA256@"
  end
  on_intel do
    url "@INTEL_URL@"
    sha256 "@INTEL_SHA256@"
  end

  depends_on :macos
  depends_on "python@@PYTHON@"
  depends_on "qemu"

  def install
    (libexec/"site").install Dir["*"]
    (bin/"cove").write_env_script formula_python, "-m cove", PYTHONPATH: libexec/"site", PYTHONSAFEPATH: "1"
    generate_completions_from_executable(bin/"cove", "completion")
  end

  def formula_python
    Formula["python@@PYTHON@"].opt_bin/"python@PYTHON@"
  end

  def caveats
    <<~EOS
      First container:            cove hello
      Before `brew uninstall`:    cove uninstall
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/cove --version")
  end
end
