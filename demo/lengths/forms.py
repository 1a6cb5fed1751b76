"""What a visitor may type."""

from django import forms

from lengths.models import Page


class PageForm(forms.ModelForm):
    """An http or https address."""

    url = forms.URLField(
        label="Address of a page",
        max_length=500,
        assume_scheme="https",
        widget=forms.URLInput(
            attrs={
                "placeholder": "https://www.djangoproject.com/",
                "autocomplete": "url",
            }
        ),
    )

    class Meta:
        model = Page
        fields = ["url"]

    def clean_url(self) -> str:
        """Refuse ftp and the like, which Django's own field lets pass."""
        url: str = self.cleaned_data["url"]
        if not url.lower().startswith(("http://", "https://")):
            raise forms.ValidationError("Only http and https addresses, please.")
        return url
